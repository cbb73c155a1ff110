/// Types of stored numbers: plain scalars and the block types of GGUF files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace mobilellm {

enum class DType : uint8_t {
  kF32,
  kF16,
  kBF16,
  kF64,
  kI8,
  kU8,
  kI16,
  kU16,
  kI32,
  kU32,
  kI64,
  kU64,
  kBool,
  kF8E4M3,  ///< OCP E4M3: no infinities, NaN is 0x7f and 0xff.
  kF8E5M2,
  // Block types of GGUF files: one row is a whole number of blocks.
  kQ4_0,
  kQ4_1,
  kQ5_0,
  kQ5_1,
  kQ8_0,
  kQ2_K,
  kQ3_K,
  kQ4_K,
  kQ5_K,
  kQ6_K,
  kIQ4_NL,
  kIQ4_XS,
  kMXFP4,
};

inline constexpr size_t kDTypeCount = static_cast<size_t>(DType::kMXFP4) + 1;

struct DTypeInfo {
  const char* name;      ///< As the file formats spell it: "BF16", "F8_E4M3", "Q4_K".
  int64_t block_values;  ///< Values in one block; 1 for scalars.
  size_t block_bytes;    ///< Bytes of one block.
};

const DTypeInfo& dtype_info(DType dtype);
const char* dtype_name(DType dtype);
/// The type of a name as dtype_name() spells it, nothing for an unknown name.
std::optional<DType> find_dtype(std::string_view name);
/// True for the block types of GGUF files.
bool is_block_dtype(DType dtype);
/// Bytes of a row of `cols` values. Throws kCorruptData when `cols` is negative, no multiple of block_values, or too
/// big.
size_t row_bytes(DType dtype, int64_t cols);

}  // namespace mobilellm
