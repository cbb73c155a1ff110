// Storage that fits a matrix, its name and its size.
#include "quant/storage_plan.h"

#include <fmt/core.h>

namespace mobilellm {
namespace {

// The type with smaller blocks that takes the place of one whose blocks do not fit the rows, near in bits.
DType smaller_blocks(DType type) {
  switch (type) {
    case DType::kQ2_K:
    case DType::kQ3_K:
    case DType::kIQ4_XS:
      return DType::kIQ4_NL;
    case DType::kQ4_K:
      return DType::kQ5_0;
    case DType::kQ5_K:
      return DType::kQ5_1;
    case DType::kQ6_K:
      return DType::kQ8_0;
    default:
      return type;
  }
}

}  // namespace

std::optional<MatrixStorage> fit_storage(const MatrixStorage& wanted, int64_t cols) {
  MatrixStorage storage = wanted;
  if (wanted.block_type != DType::kU32) {
    const auto divides = [&] { return cols % dtype_info(storage.block_type).block_values == 0; };
    if (!divides()) storage.block_type = smaller_blocks(storage.block_type);
    return divides() ? std::optional(storage) : std::nullopt;
  }
  int& group = storage.params.group_size;
  while (storage.params.mode == QuantMode::kAffine && group > 32 && cols % group != 0) group /= 2;
  return cols % group == 0 ? std::optional(storage) : std::nullopt;
}

std::string storage_name(const MatrixStorage& storage) {
  if (storage.block_type != DType::kU32) return dtype_name(storage.block_type);
  return fmt::format("{} {} bits, group {}", quant_mode_name(storage.params.mode), storage.params.bits,
                     storage.params.group_size);
}

double stored_bits(const MatrixStorage& storage, int64_t rows, int64_t cols) {
  const auto n = static_cast<double>(rows) * static_cast<double>(cols);
  if (storage.block_type != DType::kU32) {
    const DTypeInfo& info = dtype_info(storage.block_type);
    return n * 8 * static_cast<double>(info.block_bytes) / static_cast<double>(info.block_values);
  }
  const QuantizationParams& params = storage.params;
  const bool is_affine = params.mode == QuantMode::kAffine;
  const double scale_bits = is_affine ? 2 * 8 * static_cast<double>(dtype_info(storage.scale_dtype).block_bytes) : 8;
  return n * (params.bits + scale_bits / params.group_size);
}

}  // namespace mobilellm
