// The table of number types.
#include "tensor/dtype.h"

#include "base/error.h"

namespace mobilellm {
namespace {

// In the order of the enumerators.
constexpr DTypeInfo kInfos[kDTypeCount] = {
    {"F32", 1, 4},      {"F16", 1, 2},        {"BF16", 1, 2},     {"F64", 1, 8},      {"I8", 1, 1},
    {"U8", 1, 1},       {"I16", 1, 2},        {"U16", 1, 2},      {"I32", 1, 4},      {"U32", 1, 4},
    {"I64", 1, 8},      {"U64", 1, 8},        {"BOOL", 1, 1},     {"F8_E4M3", 1, 1},  {"F8_E5M2", 1, 1},
    {"Q4_0", 32, 18},   {"Q4_1", 32, 20},     {"Q5_0", 32, 22},   {"Q5_1", 32, 24},   {"Q8_0", 32, 34},
    {"Q2_K", 256, 84},  {"Q3_K", 256, 110},   {"Q4_K", 256, 144}, {"Q5_K", 256, 176}, {"Q6_K", 256, 210},
    {"IQ4_NL", 32, 18}, {"IQ4_XS", 256, 136}, {"MXFP4", 32, 17},
};

}  // namespace

const DTypeInfo& dtype_info(DType dtype) {
  const auto index = static_cast<size_t>(dtype);
  MOBILELLM_CHECK(index < kDTypeCount);
  return kInfos[index];
}

const char* dtype_name(DType dtype) { return dtype_info(dtype).name; }

std::optional<DType> find_dtype(std::string_view name) {
  for (size_t i = 0; i < kDTypeCount; ++i) {
    if (name == kInfos[i].name) return static_cast<DType>(i);
  }
  return std::nullopt;
}

bool is_block_dtype(DType dtype) { return dtype_info(dtype).block_values > 1; }

size_t row_bytes(DType dtype, int64_t cols) {
  const DTypeInfo& info = dtype_info(dtype);
  if (cols < 0 || cols % info.block_values != 0) {
    fail(ErrorCode::kCorruptData, "[tensor] a row of type {}: got {} values, expected a multiple of {}", info.name,
         cols, info.block_values);
  }
  return checked_mul(static_cast<size_t>(cols / info.block_values), info.block_bytes, "bytes of a row");
}

}  // namespace mobilellm
