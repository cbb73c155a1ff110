/// A named, typed, shaped piece of a file: what the readers hand to the rest of the program.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/dtype.h"

namespace mobilellm {

class MappedFile;

/// Valid as long as the WeightSource that holds it.
struct TensorView {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;        ///< Outermost first, as in Hugging Face files; empty for a scalar.
  std::span<const std::byte> data;   ///< Row-major, not necessarily aligned.
  const MappedFile* file = nullptr;  ///< The file that `data` lies in.
  /// Empty, or the name of a type that DType lacks ("IQ3_S"); then dtype is kU8 and only the name, shape and raw bytes
  /// mean anything. Listing such a tensor is fine, reading it is an error: see check_supported().
  std::string unsupported_type;

  /// Product of the shape, 1 for a scalar. Readers have checked that it fits.
  int64_t n_values() const;
  /// "BF16", "Q4_K", or the name of the unsupported type.
  const char* type_name() const;
};

/// Throws kUnsupported naming the file, tensor and type when no reader of values knows the type.
void check_supported(const TensorView& tensor);

/// "[4, 128]" for messages.
std::string shape_text(std::span<const int64_t> shape);
/// Name of a tensor or key for messages: control characters as '?', at most 200 bytes.
std::string printable_name(std::string_view name);
/// "tensor 'NAME' of FILE" for messages.
std::string describe(const TensorView& tensor);

/// Product of a shape. Throws kCorruptData naming `what` when a dimension is negative or the product exceeds int64.
int64_t checked_n_values(std::span<const int64_t> shape, std::string_view what);

}  // namespace mobilellm
