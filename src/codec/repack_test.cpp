// Tests of repacking: codes of random groups and blocks decode to the same values in the other format.
#include "codec/repack.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "tensor/float_convert.h"
#include "tests/support/scratch_folder.h"

namespace mobilellm {
namespace {

constexpr int64_t kRows = 3;
constexpr int64_t kCols = 256;

struct Bytes {
  std::vector<std::byte> bytes;
  explicit Bytes(size_t n, uint32_t seed) : bytes(n) {
    std::mt19937 random(seed);
    for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  }
};

std::vector<std::byte> random_scales(DType dtype, size_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<std::byte> bytes;
  for (size_t i = 0; i < n; ++i) {
    // A multiple of 1/64 below 2 fits every type.
    const float value = static_cast<float>(static_cast<int>(random() % 255) - 127) / 64.0F;
    if (dtype == DType::kF32) {
      const auto* p = reinterpret_cast<const std::byte*>(&value);
      bytes.insert(bytes.end(), p, p + 4);
    } else {
      const uint16_t bits = dtype == DType::kF16 ? float_to_fp16(value) : float_to_bf16(value);
      const auto* p = reinterpret_cast<const std::byte*>(&bits);
      bytes.insert(bytes.end(), p, p + 2);
    }
  }
  return bytes;
}

TensorView view(const char* name, DType dtype, std::vector<int64_t> shape, std::span<const std::byte> data) {
  TensorView tensor;
  tensor.name = name;
  tensor.dtype = dtype;
  tensor.shape = std::move(shape);
  tensor.data = data;
  return tensor;
}

std::vector<float> decode(const StoredMatrix& matrix) {
  std::vector<float> values(static_cast<size_t>(matrix.rows * matrix.cols));
  matrix.codec->decode_rows(matrix, 0, matrix.rows, values.data());
  return values;
}

double relative_error(const std::vector<float>& got, const std::vector<float>& expected) {
  double error = 0;
  double norm = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    const double difference = static_cast<double>(got[i]) - static_cast<double>(expected[i]);
    error += difference * difference;
    norm += static_cast<double>(expected[i]) * static_cast<double>(expected[i]);
  }
  return std::sqrt(error / norm);
}

TEST(Repack, AffineGroupsAsBlocks) {
  for (const int bits : {2, 3, 4, 5, 6, 8}) {
    for (const int group : {32, 64, 128}) {
      for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
        const auto n_words = static_cast<size_t>(kRows * kCols * bits / 32);
        const Bytes codes(n_words * 4, static_cast<uint32_t>(bits * group));
        const auto scales = random_scales(dtype, static_cast<size_t>(kRows * kCols / group), 1);
        const auto biases = random_scales(dtype, static_cast<size_t>(kRows * kCols / group), 2);
        const StoredMatrix packed = make_affine_matrix(view("w", DType::kU32, {kRows, kCols * bits / 32}, codes.bytes),
                                                       view("s", dtype, {kRows, kCols / group}, scales),
                                                       view("b", dtype, {kRows, kCols / group}, biases), bits, group);
        const DType type = nearest_block_type(packed);
        EXPECT_EQ(type, bits <= 4 ? DType::kQ4_1 : bits == 5 ? DType::kQ5_1 : DType::kQ8_0);
        std::vector<std::byte> blocks;
        append_blocks(packed, 0, 1, blocks);
        append_blocks(packed, 1, kRows, blocks);
        const StoredMatrix matrix = make_matrix(view("w", type, {kRows, kCols}, blocks));
        if (bits <= 5) {
          EXPECT_EQ(decode(matrix), decode(packed)) << bits << " bits, group " << group;
        } else {
          EXPECT_LT(relative_error(decode(matrix), decode(packed)), 0.01) << bits << " bits, group " << group;
        }
      }
    }
  }
}

TEST(Repack, BlocksAsGroups) {
  for (const DType type : {DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1, DType::kQ8_0, DType::kMXFP4}) {
    const DTypeInfo& info = dtype_info(type);
    const auto n_blocks = static_cast<size_t>(kRows * kCols / info.block_values);
    Bytes blocks(n_blocks * info.block_bytes, 7);
    for (size_t i = 0; i < n_blocks; ++i) {
      std::byte* block = blocks.bytes.data() + i * info.block_bytes;
      if (type == DType::kMXFP4) {
        block[0] = static_cast<std::byte>(120 + i % 10);
      } else {
        const auto values = random_scales(DType::kF16, 2, static_cast<uint32_t>(i));
        const bool has_minimum = type == DType::kQ4_1 || type == DType::kQ5_1;
        std::memcpy(block, values.data(), has_minimum ? 4 : 2);
      }
    }
    const StoredMatrix matrix = make_matrix(view("w", type, {kRows, kCols}, blocks.bytes));
    const QuantizationParams params = *exact_packing(type);
    PackedRows rows;
    append_packed(matrix, 0, 2, rows);
    append_packed(matrix, 2, kRows, rows);
    const TensorView weight = view("w", DType::kU32, {kRows, kCols * params.bits / 32}, rows.weight);
    const bool is_affine = params.mode == QuantMode::kAffine;
    const TensorView scales = view("s", is_affine ? DType::kF16 : DType::kU8, {kRows, kCols / 32}, rows.scales);
    const TensorView biases = view("b", DType::kF16, {kRows, kCols / 32}, rows.biases);
    const StoredMatrix packed = make_quantized_matrix(weight, scales, is_affine ? &biases : nullptr, params);
    EXPECT_EQ(decode(packed), decode(matrix)) << info.name;
    // And back: a block type with a minimum or MXFP4 gives the same bytes.
    if (type == DType::kQ4_1 || type == DType::kQ5_1 || type == DType::kQ8_0 || type == DType::kMXFP4) {
      std::vector<std::byte> again;
      append_blocks(packed, 0, kRows, again);
      EXPECT_EQ(again, blocks.bytes) << info.name;
    }
  }
  EXPECT_FALSE(exact_packing(DType::kQ6_K));
  EXPECT_FALSE(exact_packing(DType::kF16));
}

TEST(Repack, ScalesBeyondFp16AreAnError) {
  const Bytes codes(kCols / 2, 1);
  const std::vector<float> scales(kCols / 32, 1e6F);
  const auto bytes = std::as_bytes(std::span(scales));
  const StoredMatrix packed = make_affine_matrix(view("w", DType::kU32, {1, kCols / 8}, codes.bytes),
                                                 view("s", DType::kF32, {1, kCols / 32}, bytes),
                                                 view("b", DType::kF32, {1, kCols / 32}, bytes), 4, 32);
  std::vector<std::byte> blocks;
  expect_error(ErrorCode::kUnsupported, {"'w'", "fp16"}, [&] { append_blocks(packed, 0, 1, blocks); });
}

}  // namespace
}  // namespace mobilellm
