// Codes of MLX groups and GGUF blocks into each other.
//
// MLX:  a row is a little-endian bit stream of codes in order; scales and biases lie in tensors of their own.
// GGUF: blocks of 32 values. Q4_0 {f16 d, 16 bytes}, Q4_1 {f16 d, f16 m, 16 bytes}, Q5_0 {f16 d, u32 high bits, 16
// bytes},
//       Q5_1 {f16 d, f16 m, u32 high bits, 16 bytes}, Q8_0 {f16 d, 32 i8}, MXFP4 {u8 exponent, 16 bytes}; byte j has
//       value j in its low nibble and value j + 16 in its high one.
#include "codec/repack.h"

#include <array>
#include <bit>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "codec/encode.h"
#include "codec/families.h"
#include "tensor/float_convert.h"

namespace mobilellm {
namespace {

constexpr size_t kBlock = 32;
using Codes = std::array<uint8_t, kBlock>;

float load_scale(const StoredMatrix& matrix, std::span<const std::byte> values, int64_t index) {
  const uint8_t* bytes = byte_pointer(values);
  switch (matrix.scale_dtype) {
    case DType::kF32:
      return load_le<float>(bytes + index * 4);
    case DType::kF16:
      return fp16_to_float(load_le<uint16_t>(bytes + index * 2));
    case DType::kBF16:
      return bf16_to_float(load_le<uint16_t>(bytes + index * 2));
    default:
      fail(ErrorCode::kInternal, "[codec] scales of type {}", dtype_name(matrix.scale_dtype));
  }
}

uint16_t checked_fp16(float value, const StoredMatrix& matrix) {
  const uint16_t bits = float_to_fp16(value);
  if (std::isfinite(fp16_to_float(bits))) return bits;
  fail(ErrorCode::kUnsupported,
       "[codec] '{}': the scale or bias {} does not fit the fp16 of blocks; dequantize instead", matrix.name, value);
}

// 32 codes of `bits` bits; the first begins at a whole byte, as 32 codes are a whole number of words.
Codes read_codes(const uint8_t* row, int64_t first, int bits) {
  Codes codes;
  const uint8_t* source = row + first * bits / 8;
  uint64_t window = 0;
  int n_bits = 0;
  for (uint8_t& code : codes) {
    while (n_bits < bits) {
      window |= uint64_t{*source++} << n_bits;
      n_bits += 8;
    }
    code = static_cast<uint8_t>(window & ((1U << bits) - 1));
    window >>= bits;
    n_bits -= bits;
  }
  return codes;
}

void append_codes(const Codes& codes, int bits, std::vector<std::byte>& out) {
  uint64_t window = 0;
  int n_bits = 0;
  for (const uint8_t code : codes) {
    window |= uint64_t{code} << n_bits;
    n_bits += bits;
    for (; n_bits >= 8; n_bits -= 8) {
      out.push_back(static_cast<std::byte>(window & 0xFF));
      window >>= 8;
    }
  }
}

template <typename T>
void append_value(std::vector<std::byte>& out, T value) {
  const auto bytes = std::bit_cast<std::array<std::byte, sizeof(T)>>(value);
  out.insert(out.end(), bytes.begin(), bytes.end());
}

void append_nibbles(const Codes& codes, std::vector<std::byte>& out) {
  for (size_t j = 0; j < kBlock / 2; ++j) {
    out.push_back(static_cast<std::byte>((codes[j] & 15) | (codes[j + kBlock / 2] & 15) << 4));
  }
}

Codes read_nibbles(const uint8_t* bytes) {
  Codes codes;
  for (size_t j = 0; j < kBlock / 2; ++j) {
    codes[j] = bytes[j] & 15;
    codes[j + kBlock / 2] = bytes[j] >> 4;
  }
  return codes;
}

uint32_t high_bits(const Codes& codes) {
  uint32_t bits = 0;
  for (size_t j = 0; j < kBlock; ++j) bits |= static_cast<uint32_t>(codes[j] >> 4 & 1) << j;
  return bits;
}

// Whether all groups are i8 codes in disguise: q - 128 times a scale that fp16 holds.
bool is_shifted_q8(const StoredMatrix& matrix, int64_t row_begin, int64_t row_end) {
  if (matrix.codec != affine_codec() || matrix.bits != 8) return false;
  const int64_t row_groups = matrix.cols / matrix.group_size;
  for (int64_t group = row_begin * row_groups; group < row_end * row_groups; ++group) {
    const float scale = load_scale(matrix, matrix.scales, group);
    if (load_scale(matrix, matrix.biases, group) != -128 * scale || fp16_to_float(float_to_fp16(scale)) != scale) {
      return false;
    }
  }
  return true;
}

void append_shifted_rows(const StoredMatrix& matrix, int64_t row_begin, int64_t row_end, std::vector<std::byte>& out) {
  const auto block = static_cast<int64_t>(kBlock);
  for (int64_t i = row_begin * matrix.cols; i < row_end * matrix.cols; i += block) {
    append_value(out, float_to_fp16(load_scale(matrix, matrix.scales, i / matrix.group_size)));
    for (int64_t j = i; j < i + block; ++j) out.push_back(matrix.data[static_cast<size_t>(j)] ^ std::byte{0x80});
  }
}

void append_nearest_rows(const StoredMatrix& matrix, int64_t row_begin, int64_t row_end, std::vector<std::byte>& out) {
  std::vector<float> values(static_cast<size_t>((row_end - row_begin) * matrix.cols));
  matrix.codec->decode_rows(matrix, row_begin, row_end, values.data());
  EncodedMatrix blocks(DType::kQ8_0, row_end - row_begin, matrix.cols, matrix.name);
  encode_rows(blocks, 0, row_end - row_begin, values.data());
  out.insert(out.end(), blocks.data().begin(), blocks.data().end());
}

void append_exact_row(const StoredMatrix& matrix, int64_t row, DType type, std::vector<std::byte>& out) {
  const uint8_t* codes_of_row = byte_pointer(matrix.data) + row * static_cast<int64_t>(data_row_bytes(matrix));
  for (int64_t column = 0; column < matrix.cols; column += static_cast<int64_t>(kBlock)) {
    const Codes codes = read_codes(codes_of_row, column, matrix.bits);
    const int64_t group = (row * matrix.cols + column) / matrix.group_size;
    if (type == DType::kMXFP4) {
      out.push_back(matrix.scales[static_cast<size_t>(group)]);
    } else {
      append_value(out, checked_fp16(load_scale(matrix, matrix.scales, group), matrix));
      append_value(out, checked_fp16(load_scale(matrix, matrix.biases, group), matrix));
    }
    if (type == DType::kQ5_1) append_value(out, high_bits(codes));
    append_nibbles(codes, out);
  }
}

// Appends bias = factor * scale.
void append_offset(uint16_t scale, float factor, const StoredMatrix& matrix, std::vector<std::byte>& out) {
  append_value(out, checked_fp16(factor * fp16_to_float(scale), matrix));
}

void append_packed_block(const StoredMatrix& matrix, const uint8_t* block, PackedRows& out) {
  if (matrix.dtype == DType::kMXFP4) {
    out.scales.push_back(static_cast<std::byte>(block[0]));
    append_codes(read_nibbles(block + 1), 4, out.weight);
    return;
  }
  const auto scale = load_le<uint16_t>(block);
  append_value(out.scales, scale);
  if (matrix.dtype == DType::kQ8_0) {
    Codes codes;
    for (size_t j = 0; j < kBlock; ++j) codes[j] = static_cast<uint8_t>(block[2 + j] ^ 0x80);  // i8 + 128
    append_offset(scale, -128, matrix, out.biases);
    append_codes(codes, 8, out.weight);
    return;
  }
  const bool has_minimum = matrix.dtype == DType::kQ4_1 || matrix.dtype == DType::kQ5_1;
  const bool has_high_bits = matrix.dtype == DType::kQ5_0 || matrix.dtype == DType::kQ5_1;
  const uint8_t* rest = block + 2;
  if (has_minimum) {
    append_value(out.biases, load_le<uint16_t>(rest));
    rest += 2;
  } else {
    append_offset(scale, has_high_bits ? -16 : -8, matrix, out.biases);
  }
  const uint32_t bits = has_high_bits ? load_le<uint32_t>(rest) : 0;
  if (has_high_bits) rest += 4;
  Codes codes = read_nibbles(rest);
  for (size_t j = 0; j < kBlock; ++j) codes[j] = static_cast<uint8_t>(codes[j] | (bits >> j & 1) << 4);
  append_codes(codes, has_high_bits ? 5 : 4, out.weight);
}

}  // namespace

DType nearest_block_type(const StoredMatrix& packed) {
  if (packed.codec == mx_packed_codec(QuantMode::kMxfp4)) return DType::kMXFP4;
  if (packed.codec != affine_codec() || packed.bits > 5) return DType::kQ8_0;
  return packed.bits <= 4 ? DType::kQ4_1 : DType::kQ5_1;
}

void append_blocks(const StoredMatrix& packed, int64_t row_begin, int64_t row_end, std::vector<std::byte>& out) {
  if (packed.cols % static_cast<int64_t>(kBlock) != 0) {
    fail(ErrorCode::kUnsupported, "[codec] '{}': got rows of {} values, expected a multiple of {}; dequantize instead",
         packed.name, packed.cols, kBlock);
  }
  const DType type = nearest_block_type(packed);
  if (is_shifted_q8(packed, row_begin, row_end)) return append_shifted_rows(packed, row_begin, row_end, out);
  if (type == DType::kQ8_0) return append_nearest_rows(packed, row_begin, row_end, out);
  for (int64_t row = row_begin; row < row_end; ++row) append_exact_row(packed, row, type, out);
}

std::optional<QuantizationParams> exact_packing(DType block_type) {
  switch (block_type) {
    case DType::kQ4_0:
    case DType::kQ4_1:
      return QuantizationParams{QuantMode::kAffine, 4, 32};
    case DType::kQ5_0:
    case DType::kQ5_1:
      return QuantizationParams{QuantMode::kAffine, 5, 32};
    case DType::kQ8_0:
      return QuantizationParams{QuantMode::kAffine, 8, 32};
    case DType::kMXFP4:
      return QuantizationParams{QuantMode::kMxfp4, 4, 32};
    default:
      return std::nullopt;
  }
}

void append_packed(const StoredMatrix& blocks, int64_t row_begin, int64_t row_end, PackedRows& out) {
  const size_t block_bytes = dtype_info(blocks.dtype).block_bytes;
  const auto row_blocks = static_cast<size_t>(blocks.cols) / kBlock;
  const uint8_t* block = byte_pointer(blocks.data) + static_cast<size_t>(row_begin) * row_blocks * block_bytes;
  for (size_t i = 0; i < static_cast<size_t>(row_end - row_begin) * row_blocks; ++i) {
    append_packed_block(blocks, block, out);
    block += block_bytes;
  }
}

}  // namespace mobilellm
