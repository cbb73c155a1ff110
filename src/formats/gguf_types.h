/// Numbers, names and block sizes of GGUF tensor types, including those whose values cannot be read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "tensor/dtype.h"

namespace mobilellm {

struct GgufTensorType {
  uint32_t id;
  const char* name;
  std::optional<DType> dtype;  ///< Nothing when the type can only be listed.
  int64_t block_values;
  size_t block_bytes;
};

/// nullptr for a number that is unknown or was withdrawn.
const GgufTensorType* find_gguf_tensor_type(uint32_t id);
/// The type that files hold a DType as; nullptr when there is none.
const GgufTensorType* gguf_tensor_type(DType dtype);

}  // namespace mobilellm
