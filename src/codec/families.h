/// What the family files give to registry.cpp, and the frame that block formats share.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <span>

#include "codec/codec.h"

namespace mobilellm {

std::span<const Codec* const> plain_codecs();
std::span<const Codec* const> affine_codecs();
std::span<const Codec* const> gguf_legacy_codecs();
std::span<const Codec* const> gguf_k_codecs();
std::span<const Codec* const> mx_codecs();

/// The codecs of packed groups, which no DType names.
const Codec* affine_codec();
const Codec* mx_packed_codec(QuantMode mode);

/// Packs `n_groups` groups of affine codes, scales and biases as `format` stores them.
void store_affine_groups(const StoredMatrix& format, int64_t n_groups, const uint8_t* codes, const float* scales,
                         const float* biases, uint8_t* data, uint8_t* stored_scales, uint8_t* stored_biases);

/// Little-endian load from any address.
template <typename T>
inline T load_le(const uint8_t* source) {
  T value;
  std::memcpy(&value, source, sizeof(T));
  return value;
}

/// Largest finite fp16: what fp16 scales and minima can hold.
inline constexpr float kMaxFp16 = 65504.0F;

inline const uint8_t* byte_pointer(std::span<const std::byte> bytes) {
  return reinterpret_cast<const uint8_t*>(bytes.data());
}

/// Values 0 .. 15 and -8 .. 7 of 4-bit codes.
constexpr std::array<int8_t, 16> kUnsignedCodes = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
constexpr std::array<int8_t, 16> kCenteredCodes = {-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7};

/// Codec of a GGUF block type. `Block` has kName, kValues, kBytes, kMaxMagnitude, and works on the values of one block:
///   static void decode(const uint8_t* block, float* out);
///   static void encode(const float* values, const float* importance, uint8_t* block);  // importance may be null
/// Formats made of integers also have kForm and
///   static void split(const uint8_t* block, const IntegerRow& out);
/// Rows are whole blocks without padding, so a range of rows is one run of blocks.
template <typename Block>
class BlockCodec final : public Codec {
 public:
  const char* name() const override { return Block::kName; }
  int64_t block_values(const StoredMatrix& /*matrix*/) const override { return Block::kValues; }
  void decode_rows(const StoredMatrix& matrix, int64_t row_begin, int64_t row_end, float* out) const override {
    const int64_t row_blocks = matrix.cols / Block::kValues;
    const int64_t n_blocks = (row_end - row_begin) * row_blocks;
    const uint8_t* block = byte_pointer(matrix.data) + row_begin * row_blocks * Block::kBytes;
    for (int64_t i = 0; i < n_blocks; ++i) {
      Block::decode(block, out);
      block += Block::kBytes;
      out += Block::kValues;
    }
  }
  bool integer_form(const StoredMatrix& /*matrix*/, IntegerForm& form) const override {
    if constexpr (requires { Block::kForm; }) {
      form = Block::kForm;
      return true;
    }
    return false;
  }
  void read_integers(const StoredMatrix& matrix, int64_t row, const IntegerRow& out) const override {
    if constexpr (requires { Block::kForm; }) {
      constexpr int64_t kGroups = Block::kValues / Block::kForm.group;
      const int64_t row_blocks = matrix.cols / Block::kValues;
      const uint8_t* block = byte_pointer(matrix.data) + row * row_blocks * Block::kBytes;
      for (int64_t i = 0; i < row_blocks; ++i) {
        Block::split(block + i * Block::kBytes, {out.codes + i * Block::kValues, out.scales + i * kGroups,
                                                 out.biases + i * kGroups, out.outer_scales + i, out.outer_biases + i});
      }
    }
  }
  void encode_rows(const EncodeArgs& args) const override {
    const int64_t row_blocks = args.format.cols / Block::kValues;
    const float* values = args.values;
    uint8_t* block = args.data;
    for (int64_t row = 0; row < args.n_rows; ++row) {
      for (int64_t i = 0; i < row_blocks; ++i) {
        Block::encode(values, args.importance == nullptr ? nullptr : args.importance + i * Block::kValues, block);
        block += Block::kBytes;
        values += Block::kValues;
      }
    }
  }
  float max_magnitude(const StoredMatrix& /*format*/) const override { return Block::kMaxMagnitude; }
};

}  // namespace mobilellm
