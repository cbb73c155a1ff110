// Packed panels hold exactly the values that the codec decodes, for every format made of integers.
#include "backend/cpu/panel_matrix.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <string>

#include "base/huge_memory.h"
#include "base/random.h"
#include "tensor/float_convert.h"

namespace mobilellm {
namespace {

std::vector<std::byte> random_bytes(size_t n, uint64_t stream) {
  std::vector<std::byte> bytes(n);
  for (size_t i = 0; i < n; ++i) bytes[i] = static_cast<std::byte>(random_bits(1, stream, i));
  return bytes;
}

TensorView view(const std::string& name, DType dtype, std::vector<int64_t> shape, const std::vector<std::byte>& data) {
  TensorView tensor;
  tensor.name = name;
  tensor.dtype = dtype;
  tensor.shape = std::move(shape);
  tensor.data = data;
  return tensor;
}

float scale_at(ScaleType type, const std::byte* numbers, int64_t index) {
  if (type == ScaleType::kI8) return static_cast<float>(static_cast<int8_t>(numbers[index]));
  if (type == ScaleType::kF32) {
    float value = 0;
    std::memcpy(&value, numbers + index * 4, 4);
    return value;
  }
  uint16_t bits = 0;
  std::memcpy(&bits, numbers + index * 2, 2);
  return type == ScaleType::kF16 ? fp16_to_float(bits) : bf16_to_float(bits);
}

// Bits of column i of a block in a plane that begins `words` words of 32 rows after the block.
int plane_bits(const std::byte* block, int words, int bits, int64_t lane, int64_t i) {
  const int64_t quads = 8 / bits;
  const int64_t word = words + i / (4 * quads);
  const int byte = std::to_integer<int>(block[(word * kPanelRows + lane) * 4 + i % 4]);
  return byte >> (i / 4 % quads * bits) & ((1 << bits) - 1);
}

int integer_at(const PanelLayout& layout, const std::byte* block, int64_t lane, int64_t i) {
  switch (layout.bits) {
    case 2:
      return layout.table[plane_bits(block, 0, 2, lane, i)];
    case 3:
      return layout.table[plane_bits(block, 0, 2, lane, i) | plane_bits(block, 2, 1, lane, i) << 2];
    case 4:
      return layout.table[plane_bits(block, 0, 4, lane, i)];
    case 5:
      return (plane_bits(block, 0, 4, lane, i) | plane_bits(block, 4, 1, lane, i) << 4) - layout.zero;
    case 6:
      return (plane_bits(block, 0, 4, lane, i) | plane_bits(block, 4, 2, lane, i) << 4) - layout.zero;
    default:
      return static_cast<int8_t>(plane_bits(block, 0, 8, lane, i));
  }
}

// Reads panels as panels.h describes them.
float value_at(const PanelLayout& layout, const std::byte* panels, int64_t row, int64_t k) {
  const std::byte* panel = panels + static_cast<size_t>(row / kPanelRows) * layout.panel_bytes;
  const int64_t lane = row % kPanelRows;
  const int64_t unit_cols = int64_t{layout.unit_blocks()} * kBlockCols;
  const std::byte* unit = panel + static_cast<size_t>(k / unit_cols) * layout.unit_bytes;
  const int64_t i = k % unit_cols;
  const std::byte* block = unit + layout.header_bytes + static_cast<size_t>(i / kBlockCols) * layout.block_bytes;
  const int code = integer_at(layout, block, lane, i % kBlockCols);
  const size_t skip = static_cast<size_t>(i / layout.group) * layout.scales_bytes;
  float scale = scale_at(layout.scale_type, unit + layout.factors_bytes + skip, lane);
  float bias = layout.has_bias ? scale_at(layout.scale_type, unit + layout.biases_offset + skip, lane) : 0.0F;
  if (layout.scale_type == ScaleType::kI8) {
    scale *= scale_at(ScaleType::kF16, unit, lane);
    if (layout.has_bias) bias *= scale_at(ScaleType::kF16, unit, kPanelRows + lane);
  }
  return scale * (static_cast<float>(code) + layout.offset) + bias;
}

void expect_same_values(const StoredMatrix& matrix, const std::string& name) {
  const auto layout = panel_layout(matrix);
  ASSERT_TRUE(layout.has_value()) << name;
  HugeMemory memory(static_cast<size_t>(layout->n_panels()) * layout->panel_bytes, "test panels");
  PackScratch scratch;
  pack_panels(matrix, *layout, 0, 1, memory.data(), scratch);
  pack_panels(matrix, *layout, 1, layout->n_panels(), memory.data(), scratch);
  std::vector<float> expected(static_cast<size_t>(matrix.rows * matrix.cols));
  matrix.codec->decode_rows(matrix, 0, matrix.rows, expected.data());
  for (int64_t r = 0; r < matrix.rows; ++r) {
    for (int64_t k = 0; k < matrix.cols; ++k) {
      const float value = expected[static_cast<size_t>(r * matrix.cols + k)];
      const float got = value_at(*layout, memory.data(), r, k);
      if (std::isnan(value) && std::isnan(got)) continue;
      ASSERT_EQ(got, value) << name << " row " << r << " column " << k;
    }
  }
}

constexpr int64_t kRows = 53;

TEST(PanelMatrix, HoldsEveryGgufFormatMadeOfIntegers) {
  for (const DType dtype : {DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1, DType::kQ8_0, DType::kQ3_K,
                            DType::kQ4_K, DType::kQ5_K, DType::kQ6_K, DType::kIQ4_NL, DType::kIQ4_XS, DType::kMXFP4}) {
    const DTypeInfo& info = dtype_info(dtype);
    const int64_t cols = info.block_values == 256 ? 512 : 96;
    const auto data = random_bytes(static_cast<size_t>(kRows * cols / info.block_values) * info.block_bytes, 3);
    expect_same_values(make_matrix(view(info.name, dtype, {kRows, cols}, data)), std::string(info.name));
  }
}

TEST(PanelMatrix, HoldsEveryAffineWidth) {
  for (const int bits : {2, 3, 4, 5, 6, 8}) {
    for (const int group : {32, 64, 128}) {
      constexpr int64_t kCols = 256;
      const auto data = random_bytes(static_cast<size_t>(kRows * kCols * bits / 8), 4);
      std::vector<std::byte> scales(static_cast<size_t>(kRows * kCols / group) * 2);
      std::vector<std::byte> biases(scales.size());
      for (size_t i = 0; i < scales.size() / 2; ++i) {
        const uint16_t scale = float_to_bf16(static_cast<float>(random_uniform(1, 5, i)));
        const uint16_t bias = float_to_bf16(static_cast<float>(random_uniform(1, 6, i)) - 0.5F);
        std::memcpy(scales.data() + 2 * i, &scale, 2);
        std::memcpy(biases.data() + 2 * i, &bias, 2);
      }
      const StoredMatrix matrix =
          make_affine_matrix(view("w", DType::kU32, {kRows, kCols * bits / 32}, data),
                             view("s", DType::kBF16, {kRows, kCols / group}, scales),
                             view("b", DType::kBF16, {kRows, kCols / group}, biases), bits, group);
      expect_same_values(matrix, std::to_string(bits) + " bits, groups of " + std::to_string(group));
    }
  }
}

TEST(PanelMatrix, HoldsTheSmallFloatsOfFourBits) {
  for (const QuantMode mode : {QuantMode::kMxfp4, QuantMode::kNvfp4}) {
    constexpr int64_t kCols = 80;
    const int64_t cols = mode == QuantMode::kMxfp4 ? 96 : kCols;
    const auto data = random_bytes(static_cast<size_t>(kRows * cols / 2), 7);
    const auto scales = random_bytes(static_cast<size_t>(kRows * cols / (mode == QuantMode::kMxfp4 ? 32 : 16)), 8);
    expect_same_values(
        make_fp_matrix(mode, view("w", DType::kU32, {kRows, cols / 8}, data),
                       view("s", DType::kU8, {kRows, cols / (mode == QuantMode::kMxfp4 ? 32 : 16)}, scales)),
        quant_mode_name(mode));
  }
}

TEST(PanelMatrix, LeavesFloatsAlone) {
  const auto data = random_bytes(64 * 4, 9);
  EXPECT_FALSE(panel_layout(make_matrix(view("w", DType::kF32, {2, 32}, data))).has_value());
  EXPECT_FALSE(panel_layout(make_matrix(view("w", DType::kBF16, {4, 32}, data))).has_value());
}

}  // namespace
}  // namespace mobilellm
