/// Named tensors of one or more files, whatever the format.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "tensor/tensor_view.h"

namespace mobilellm {

/// Immutable after opening, so any thread may read. Views are valid as long as the source.
class WeightSource {
 public:
  virtual ~WeightSource();

  /// In the order of the files; names are unique.
  virtual const std::vector<TensorView>& tensors() const = 0;
  /// What was opened: a weight file or the index of a sharded set.
  virtual std::string path() const = 0;
  /// Throws kIo when a file changed since it was opened; loaders call it after they have read everything.
  virtual void check_unchanged() const = 0;

  /// nullptr when absent.
  const TensorView* find(std::string_view name) const;
  /// Throws kNotFound naming the tensor and path().
  const TensorView& get(std::string_view name) const;
  /// Lets the system drop the pages of a tensor that will not be read again soon.
  void release(const TensorView& tensor) const;
  /// The same for any part of the files; other memory is left alone.
  void release(std::span<const std::byte> range) const;
  /// Sum of the tensors' bytes.
  size_t total_bytes() const;

 protected:
  /// Indexes tensors() by name; throws kCorruptData on a duplicate. Called once, at the end of opening.
  void build_index();

 private:
  std::unordered_map<std::string_view, size_t> index_;
};

}  // namespace mobilellm
