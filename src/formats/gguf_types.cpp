// The table of GGUF tensor types.
#include "formats/gguf_types.h"

#include <span>

namespace mobilellm {
namespace {

// A type that DType has: its name and sizes are in tensor/dtype.cpp.
GgufTensorType readable(uint32_t id, DType dtype) {
  const DTypeInfo& info = dtype_info(dtype);
  return {id, info.name, dtype, info.block_values, info.block_bytes};
}

GgufTensorType listed(uint32_t id, const char* name, int64_t block_values, size_t block_bytes) {
  return {id, name, std::nullopt, block_values, block_bytes};
}

std::span<const GgufTensorType> all_types() {
  static const GgufTensorType types[] = {
      readable(0, DType::kF32),      readable(1, DType::kF16),       readable(2, DType::kQ4_0),
      readable(3, DType::kQ4_1),     readable(6, DType::kQ5_0),      readable(7, DType::kQ5_1),
      readable(8, DType::kQ8_0),     listed(9, "Q8_1", 32, 36),      readable(10, DType::kQ2_K),
      readable(11, DType::kQ3_K),    readable(12, DType::kQ4_K),     readable(13, DType::kQ5_K),
      readable(14, DType::kQ6_K),    listed(15, "Q8_K", 256, 292),   listed(16, "IQ2_XXS", 256, 66),
      listed(17, "IQ2_XS", 256, 74), listed(18, "IQ3_XXS", 256, 98), listed(19, "IQ1_S", 256, 50),
      readable(20, DType::kIQ4_NL),  listed(21, "IQ3_S", 256, 110),  listed(22, "IQ2_S", 256, 82),
      readable(23, DType::kIQ4_XS),  readable(24, DType::kI8),       readable(25, DType::kI16),
      readable(26, DType::kI32),     readable(27, DType::kI64),      readable(28, DType::kF64),
      listed(29, "IQ1_M", 256, 56),  readable(30, DType::kBF16),     listed(34, "TQ1_0", 256, 54),
      listed(35, "TQ2_0", 256, 66),  readable(39, DType::kMXFP4),
  };
  return types;
}

}  // namespace

const GgufTensorType* find_gguf_tensor_type(uint32_t id) {
  for (const GgufTensorType& type : all_types()) {
    if (type.id == id) return &type;
  }
  return nullptr;
}

const GgufTensorType* gguf_tensor_type(DType dtype) {
  for (const GgufTensorType& type : all_types()) {
    if (type.dtype == dtype) return &type;
  }
  return nullptr;
}

}  // namespace mobilellm
