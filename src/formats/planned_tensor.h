/// A tensor that a writer will ask for: its name, type and shape now, its bytes when their turn comes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/output_file.h"
#include "tensor/dtype.h"

namespace mobilellm {

/// Takes the next bytes of a tensor.
using ByteSink = std::function<void(std::span<const std::byte>)>;

struct PlannedTensor {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;  ///< Outermost first.
  std::function<void(const ByteSink&)>
      write;  ///< Gives all bytes, row-major, in as many pieces as it likes. Called once.
};

/// Throws kCorruptData for an impossible shape.
size_t planned_bytes(const PlannedTensor& tensor);
size_t planned_bytes(std::span<const PlannedTensor> tensors);

/// Appends the tensor's bytes to the file. Throws kInternal when it gives more or fewer than its shape says.
void write_planned(const PlannedTensor& tensor, OutputFile& file);

/// Cuts the plan into consecutive runs of at most `max_bytes` each (a larger tensor stands alone); 0 = one run.
std::vector<std::span<const PlannedTensor>> split_into_shards(std::span<const PlannedTensor> tensors, size_t max_bytes);

}  // namespace mobilellm
