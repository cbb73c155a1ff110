// Encoders against the bytes that MLX and ggml write, bounds of their errors, round trips and bad input.
#include "codec/encode.h"

#include <fmt/core.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>

#include "base/thread_pool.h"
#include "codec/affine_fit.h"
#include "formats/gguf.h"
#include "formats/safetensors.h"
#include "tensor/float_convert.h"
#include "tests/support/scratch_folder.h"

namespace mobilellm {
namespace {

const std::string kVectors = MOBILELLM_SOURCE_DIR "/tests/vectors/codec/";

// A format by the two ways to name one.
struct Format {
  DType dtype = DType::kU32;
  QuantizationParams params;
  DType scale_dtype = DType::kF32;

  EncodedMatrix allocate(int64_t rows, int64_t cols) const {
    if (dtype != DType::kU32) return EncodedMatrix(dtype, rows, cols, "w");
    return EncodedMatrix(params, scale_dtype, rows, cols, "w");
  }
  std::string name() const {
    if (dtype != DType::kU32) return dtype_name(dtype);
    return fmt::format("{} {} bits group {} {}", quant_mode_name(params.mode), params.bits, params.group_size,
                       dtype_name(scale_dtype));
  }
};

std::vector<Format> all_formats() {
  std::vector<Format> formats;
  for (size_t i = 0; i < kDTypeCount; ++i) {
    if (find_codec(static_cast<DType>(i)) != nullptr) formats.push_back({static_cast<DType>(i), {}, DType::kF32});
  }
  for (const DType scale : {DType::kF32, DType::kF16, DType::kBF16}) {
    for (const int bits : {2, 3, 4, 5, 6, 8}) {
      for (const int group : {32, 64, 128}) formats.push_back({DType::kU32, {QuantMode::kAffine, bits, group}, scale});
    }
  }
  formats.push_back({DType::kU32, {QuantMode::kMxfp4, 4, 32}, DType::kU8});
  formats.push_back({DType::kU32, {QuantMode::kNvfp4, 4, 16}, DType::kU8});
  formats.push_back({DType::kU32, {QuantMode::kMxfp8, 8, 32}, DType::kU8});
  return formats;
}

EncodedMatrix encode(const Format& format, int64_t rows, int64_t cols, const std::vector<float>& values,
                     std::span<const float> importance = {}) {
  EncodedMatrix out = format.allocate(rows, cols);
  encode_rows(out, 0, rows, values.data(), importance);
  return out;
}

std::vector<float> decode(const EncodedMatrix& matrix) {
  std::vector<float> out(static_cast<size_t>(matrix.view().rows * matrix.view().cols));
  matrix.view().codec->decode_rows(matrix.view(), 0, matrix.view().rows, out.data());
  return out;
}

void expect_bytes(std::span<const std::byte> got, std::span<const std::byte> expected, const std::string& what) {
  ASSERT_EQ(got.size(), expected.size()) << what;
  size_t n_different = 0;
  size_t first = got.size();
  for (size_t i = 0; i < got.size(); ++i) {
    if (got[i] == expected[i]) continue;
    first = std::min(first, i);
    ++n_different;
  }
  EXPECT_EQ(n_different, 0U) << what << ": first difference at byte " << first << " of " << got.size();
}

std::vector<float> random_values(size_t n, uint32_t seed, float scale = 0.02F) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(n);
  for (float& value : values) value = scale * normal(random);
  return values;
}

TEST(Encode, WritesTheBytesOfMlx) {
  const std::shared_ptr<WeightSource> file = open_safetensors(kVectors + "quantize_matrix.safetensors");
  const std::vector<float> w = decode_tensor(file->get("w"));
  const auto check = [&](const std::string& name, const QuantizationParams& params) {
    const EncodedMatrix got = encode({DType::kU32, params, DType::kF32}, 8, 256, w);
    expect_bytes(got.view().data, file->get(name + ".q").data, name);
    expect_bytes(got.view().scales, file->get(name + ".scales").data, name + " scales");
    if (params.mode != QuantMode::kAffine) return;
    expect_bytes(got.view().biases, file->get(name + ".biases").data, name + " biases");
  };
  for (const int bits : {2, 3, 4, 5, 6, 8}) {
    for (const int group : {32, 64, 128}) {
      check(fmt::format("affine_b{}_g{}", bits, group), {QuantMode::kAffine, bits, group});
    }
  }
  check("mxfp4", {QuantMode::kMxfp4, 4, 32});
  check("nvfp4", {QuantMode::kNvfp4, 4, 16});
  check("mxfp8", {QuantMode::kMxfp8, 8, 32});
}

TEST(Encode, WritesTheBytesOfGgml) {
  const std::shared_ptr<GgufFile> file = GgufFile::open(kVectors + "quants.gguf");
  const std::vector<float> x = decode_tensor(open_safetensors(kVectors + "quants.safetensors")->get("x"));
  int n_types = 0;
  for (const TensorView& tensor : file->tensors()) {
    if (!tensor.unsupported_type.empty()) continue;
    const EncodedMatrix got = encode({tensor.dtype, {}, DType::kF32}, 6, 512, x);
    expect_bytes(got.view().data, tensor.data, tensor.name);
    ++n_types;
  }
  EXPECT_EQ(n_types, 16);
}

// Zeros, constants, outliers, ties, tiny values; 16-bit scales.
TEST(Encode, WritesTheSameBytesForAwkwardRows) {
  const std::shared_ptr<WeightSource> file = open_safetensors(kVectors + "encode.safetensors");
  const std::vector<float> x = decode_tensor(file->get("x"));
  int n_checked = 0;
  for (const TensorView& tensor : file->tensors()) {
    const std::string& name = tensor.name;
    if (name.starts_with("gguf.")) {
      const EncodedMatrix got = encode({*find_dtype(name.substr(5)), {}, DType::kF32}, 18, 512, x);
      expect_bytes(got.view().data, tensor.data, name);
      ++n_checked;
    } else if (name.ends_with(".q")) {
      const std::string stem = name.substr(0, name.size() - 2);
      Format format;
      std::vector<float> values = x;
      if (stem.starts_with("affine")) {
        // affine.DTYPE.bB.gG; the matrix is rounded to the type first.
        const std::string type = stem.substr(7, stem.find('.', 7) - 7);
        const size_t bits_at = stem.find(".b", 7 + type.size()) + 2;
        format.params = {QuantMode::kAffine, std::stoi(stem.substr(bits_at)), std::stoi(stem.substr(bits_at + 3))};
        format.scale_dtype = type == "f32" ? DType::kF32 : type == "f16" ? DType::kF16 : DType::kBF16;
        for (float& value : values) value = round_to_stored(value, format.scale_dtype);
      } else {
        const QuantMode mode = *find_quant_mode(stem);
        format.params = {mode, mode == QuantMode::kMxfp8 ? 8 : 4, mode == QuantMode::kNvfp4 ? 16 : 32};
      }
      const EncodedMatrix got = encode(format, 18, 512, values);
      expect_bytes(got.view().data, tensor.data, name);
      expect_bytes(got.view().scales, file->get(stem + ".scales").data, stem + ".scales");
      if (!got.view().biases.empty()) {
        expect_bytes(got.view().biases, file->get(stem + ".biases").data, stem + ".biases");
      }
      ++n_checked;
    }
  }
  EXPECT_EQ(n_checked, 13 + 3 * 6 + 3);
}

// Relative to the largest magnitude of a block: half a step of the grid, and what the stored scale's rounding adds.
double error_bound(const StoredMatrix& matrix) {
  const std::string name = matrix.codec->name();
  if (name == "f32" || name == "f64") return 0.0;
  if (name == "f16") return 0x1p-11;
  if (name == "bf16") return 0x1p-8;
  if (name == "f8_e4m3") return 0x1p-4;
  if (name == "f8_e5m2") return 0x1p-3;
  if (name == "mxfp8") return 0x1p-3;
  // The step is up to twice the magnitude over the levels; moving zero onto the grid costs another half.
  if (name == "affine") return 2.05 / ((1 << matrix.bits) - 1) + (matrix.scale_dtype == DType::kBF16 ? 0.02 : 0.0);
  if (name == "q8_0") return 0.6 / 127;
  if (name == "q6_k") return 1.5 / 31;
  if (name == "q5_0" || name == "q5_1" || name == "q5_k") return 2.5 / 31;
  if (name == "q3_k") return 0.45;
  if (name == "q2_k") return 0.8;
  return 0.26;  // Four bits of any kind.
}

TEST(Encode, ErrorsAreBounded) {
  constexpr int64_t kRows = 5;
  constexpr int64_t kCols = 512;
  std::vector<float> importance(kCols);
  for (size_t i = 0; i < importance.size(); ++i) importance[i] = 1.0F + static_cast<float>(i % 7);
  for (const Format& format : all_formats()) {
    for (const float scale : {1e-2F, 1.0F}) {
      const std::vector<float> values = random_values(kRows * kCols, 11, scale);
      for (const bool has_importance : {false, true}) {
        const EncodedMatrix matrix =
            encode(format, kRows, kCols, values,
                   has_importance ? std::span<const float>(importance) : std::span<const float>());
        const std::vector<float> got = decode(matrix);
        double largest = 0.0;
        double worst = 0.0;
        for (size_t i = 0; i < got.size(); ++i) {
          largest = std::max(largest, static_cast<double>(std::fabs(values[i])));
          worst = std::max(worst, static_cast<double>(std::fabs(values[i] - got[i])));
        }
        EXPECT_LE(worst, largest * error_bound(matrix.view())) << format.name() << " importance " << has_importance;
      }
    }
  }
}

// What lies on a format's grid stays there, for formats whose grid the values of a block determine.
TEST(Encode, DecodedValuesEncodeToTheSameValues) {
  int n_formats = 0;
  for (const Format& format : all_formats()) {
    const std::string name = format.allocate(1, 512).view().codec->name();
    // These search, or choose the grid by more than the extreme value.
    if (name == "affine" || name == "nvfp4" || name.ends_with("_k") || name.starts_with("iq4") || name.ends_with("_1"))
      continue;
    const std::vector<float> values = random_values(4 * 512, 12, name.starts_with("f8") ? 3.0F : 0.02F);
    const std::vector<float> first = decode(encode(format, 4, 512, values));
    EXPECT_EQ(first, decode(encode(format, 4, 512, first))) << format.name();
    ++n_formats;
  }
  EXPECT_EQ(n_formats, 12);
}

TEST(Encode, AffineGridsThatContainZeroAreKept) {
  for (const int bits : {2, 3, 4, 5, 6, 8}) {
    const int top = (1 << bits) - 1;
    for (int zero = 0; zero <= top; ++zero) {
      std::vector<float> values(128);
      for (int i = 0; i < 128; ++i)
        values[static_cast<size_t>(i)] = 0.0625F * static_cast<float>(i * 37 % (top + 1) - zero);
      values[0] = -0.0625F * static_cast<float>(zero);
      values[1] = 0.0625F * static_cast<float>(top - zero);
      const Format format = {DType::kU32, {QuantMode::kAffine, bits, 128}, DType::kBF16};
      EXPECT_EQ(decode(encode(format, 1, 128, values)), values) << bits << " bits, zero at " << zero;
    }
  }
}

TEST(Encode, AnySplitIntoRowsAndThreadsGivesTheSameBytes) {
  constexpr int64_t kRows = 150;
  constexpr int64_t kCols = 1024;
  const std::vector<float> values = random_values(kRows * kCols, 13);
  ThreadPool pool(3);
  for (const DType dtype : {DType::kBF16, DType::kQ4_0, DType::kQ6_K}) {
    const Format format = {dtype, {}, DType::kF32};
    const EncodedMatrix whole = encode(format, kRows, kCols, values);
    EncodedMatrix shared = format.allocate(kRows, kCols);
    encode_matrix(shared, values.data(), {}, pool);
    expect_bytes(shared.view().data, whole.view().data, format.name());
    EncodedMatrix pieces = format.allocate(kRows, kCols);
    for (int64_t row = kRows; row-- > 0;) encode_rows(pieces, row, row + 1, values.data() + row * kCols);
    expect_bytes(pieces.view().data, whole.view().data, format.name());
  }
  const Format affine = {DType::kU32, {QuantMode::kAffine, 3, 64}, DType::kBF16};
  const EncodedMatrix whole = encode(affine, kRows, kCols, values);
  EncodedMatrix shared = affine.allocate(kRows, kCols);
  encode_matrix(shared, values.data(), {}, pool);
  const EncodedMatrix moved = std::move(shared);
  expect_bytes(moved.view().data, whole.view().data, "affine");
  expect_bytes(moved.view().scales, whole.view().scales, "affine scales");
  expect_bytes(moved.view().biases, whole.view().biases, "affine biases");
}

// Whatever finite values come, the decoded ones are finite, and zeros stay near zero.
TEST(Encode, HostileValuesGiveFiniteFiles) {
  constexpr size_t kCols = 256;
  std::vector<std::vector<float>> rows;
  const auto add = [&](auto make) {
    std::vector<float> row(kCols);
    for (size_t i = 0; i < kCols; ++i) row[i] = make(i);
    rows.push_back(row);
  };
  const float denormal = std::numeric_limits<float>::denorm_min();
  add([](size_t) { return 0.0F; });
  add([](size_t) { return -0.0F; });
  add([&](size_t i) { return denormal * static_cast<float>(i); });
  add([](size_t i) { return i % 2 == 0 ? 1e-38F : -1e-38F; });
  add([](size_t i) { return i == 77 ? 1e-30F : 0.0F; });
  add([](size_t i) { return i == 3 ? 440.0F : 1e-9F; });
  add([](size_t i) { return i % 2 == 0 ? 440.0F : -440.0F; });
  add([](size_t) { return 440.0F; });
  add([](size_t) { return -1e-20F; });
  add([](size_t i) { return std::ldexp(1.0F, static_cast<int>(i % 150) - 142); });
  add([](size_t i) { return (i % 3 == 0 ? -1.0F : 1.0F) * 3e-16F; });
  std::vector<float> importance(kCols, 0.0F);
  importance[5] = std::numeric_limits<float>::max();
  importance[6] = denormal;
  const std::vector<float> no_importance(kCols, 0.0F);
  for (const Format& format : all_formats()) {
    for (const std::vector<float>& row : rows) {
      for (const std::span<const float> weights :
           {std::span<const float>(), std::span<const float>(importance), std::span<const float>(no_importance)}) {
        const std::vector<float> got = decode(encode(format, 1, kCols, row, weights));
        const float largest = std::fabs(
            *std::max_element(row.begin(), row.end(), [](float a, float b) { return std::fabs(a) < std::fabs(b); }));
        for (const float value : got) {
          ASSERT_TRUE(std::isfinite(value)) << format.name();
          ASSERT_LE(std::fabs(value), largest * 1.6F + 2e-6F) << format.name() << " " << largest;
        }
      }
    }
  }
}

TEST(Encode, RefusesValuesThatAreNotFiniteOrTooBig) {
  for (const Format& format : all_formats()) {
    std::vector<float> values(3 * 512, 0.5F);
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                            -std::numeric_limits<float>::infinity()}) {
      values[2 * 512 + 300] = bad;
      expect_error(ErrorCode::kCorruptData, {"'w'", "row 2", "column 300", "finite"},
                   [&] { encode(format, 3, 512, values); });
      ThreadPool pool(2);
      EncodedMatrix out = format.allocate(3, 512);
      expect_error(ErrorCode::kCorruptData, {"row 2", "column 300"},
                   [&] { encode_matrix(out, values.data(), {}, pool); });
    }
  }
  std::vector<float> values(512, 1.0F);
  values[9] = -70000.0F;
  for (const DType dtype : {DType::kF16, DType::kQ4_0, DType::kQ8_0, DType::kQ4_K, DType::kIQ4_XS}) {
    expect_error(ErrorCode::kCorruptData, {"column 9", "-70000", "BF16"},
                 [&] { encode({dtype, {}, DType::kF32}, 1, 512, values); });
  }
  EXPECT_EQ(decode(encode({DType::kBF16, {}, DType::kF32}, 1, 512, values))[0], 1.0F);
}

TEST(Encode, RefusesShapesThatDoNotDivide) {
  expect_error(ErrorCode::kInvalidArgument, {"'w'", "576", "256", "Q4_K", "Q5_0"},
               [] { EncodedMatrix(DType::kQ4_K, 2, 576, "w"); });
  expect_error(ErrorCode::kInvalidArgument, {"'w'", "100", "32", "F16"},
               [] { EncodedMatrix(DType::kQ8_0, 2, 100, "w"); });
  expect_error(ErrorCode::kInvalidArgument, {"576", "128", "groups of 64"},
               [] { EncodedMatrix({QuantMode::kAffine, 4, 128}, DType::kBF16, 2, 576, "w"); });
  expect_error(ErrorCode::kInvalidArgument, {"96", "64", "groups of 32"},
               [] { EncodedMatrix({QuantMode::kAffine, 4, 64}, DType::kBF16, 2, 96, "w"); });
  expect_error(ErrorCode::kInvalidArgument, {"20", "64", "BF16"},
               [] { EncodedMatrix({QuantMode::kAffine, 4, 64}, DType::kBF16, 2, 20, "w"); });
  expect_error(ErrorCode::kInvalidArgument, {"I32"}, [] { EncodedMatrix(DType::kI32, 2, 32, "w"); });
  expect_error(ErrorCode::kInvalidArgument, {"Q4_0", "scales"},
               [] { EncodedMatrix({QuantMode::kAffine, 4, 64}, DType::kQ4_0, 2, 64, "w"); });
  expect_error(ErrorCode::kInvalidArgument, {"-1"}, [] { EncodedMatrix(DType::kF32, -1, 4, "w"); });
  expect_error(ErrorCode::kCorruptData, {"bytes of a matrix"},
               [] { EncodedMatrix(DType::kF32, INT64_MAX / 2, 1 << 20, "w"); });
  EncodedMatrix out(DType::kF32, 2, 4, "w");
  const float values[8] = {};
  expect_error(ErrorCode::kInvalidArgument, {"rows 1 to 3"}, [&] { encode_rows(out, 1, 3, values); });
  const float importance[] = {1.0F, 1.0F, -1.0F, 1.0F};
  expect_error(ErrorCode::kInvalidArgument, {"column 2", "-1"}, [&] { encode_rows(out, 0, 2, values, importance); });
  expect_error(ErrorCode::kInvalidArgument, {"3", "4"},
               [&] { encode_rows(out, 0, 2, values, std::span(importance).first(3)); });
  EncodedMatrix empty(DType::kQ4_0, 0, 64, "w");
  encode_rows(empty, 0, 0, values);
  EXPECT_TRUE(empty.view().data.empty());
}

double weighted_error(const std::vector<float>& values, const std::vector<float>& got,
                      const std::vector<float>& importance) {
  double error = 0.0;
  for (size_t i = 0; i < values.size(); ++i) {
    const double difference = static_cast<double>(values[i]) - static_cast<double>(got[i]);
    error += static_cast<double>(importance[i % importance.size()]) * difference * difference;
  }
  return error;
}

TEST(Encode, ImportanceLowersTheWeightedError) {
  const std::vector<float> values = random_values(16 * 512, 14);
  std::mt19937 random(15);
  std::lognormal_distribution<float> heavy(0.0F, 1.5F);
  std::vector<float> importance(512);
  for (float& value : importance) value = heavy(random);
  for (const DType dtype : {DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1, DType::kQ2_K, DType::kQ3_K,
                            DType::kQ4_K, DType::kQ5_K, DType::kQ6_K, DType::kIQ4_NL, DType::kIQ4_XS}) {
    const Format format = {dtype, {}, DType::kF32};
    const double plain = weighted_error(values, decode(encode(format, 16, 512, values)), importance);
    const double fitted = weighted_error(values, decode(encode(format, 16, 512, values, importance)), importance);
    EXPECT_LT(fitted, 0.95 * plain) << dtype_name(dtype);
  }
}

// An affine 4-bit matrix in groups of 32 with fp16 scales is a Q4_1 matrix.
TEST(Encode, AffineFitIsNeverWorseThanItsStart) {
  std::vector<float> weights(64);
  for (int trial = 0; trial < 50; ++trial) {
    const std::vector<float> x = random_values(64, static_cast<uint32_t>(100 + trial));
    const std::vector<float> importance = random_values(64, static_cast<uint32_t>(200 + trial), 1.0F);
    std::vector<float> squares(64);
    for (size_t i = 0; i < 64; ++i) squares[i] = importance[i] * importance[i];
    make_fit_weights(squares.data(), 64, weights.data());
    for (const int bits : {2, 3, 4, 6, 8}) {
      const EncodedMatrix rounded = encode({DType::kU32, {QuantMode::kAffine, bits, 64}, DType::kBF16}, 1, 64, x);
      uint16_t scale = 0;
      uint16_t bias = 0;
      std::memcpy(&scale, rounded.view().scales.data(), 2);
      std::memcpy(&bias, rounded.view().biases.data(), 2);
      const AffineGrid start = {bf16_to_float(scale), bf16_to_float(bias), 0.0F};
      const int top = (1 << bits) - 1;
      const AffineGrid fitted = fit_affine(x.data(), weights.data(), 64, top, DType::kBF16, &start);
      const auto error_of = [&](const AffineGrid& grid) {
        double error = 0.0;
        for (size_t i = 0; i < 64; ++i) {
          const double q = std::clamp(std::nearbyint((static_cast<double>(x[i]) - static_cast<double>(grid.bias)) /
                                                     static_cast<double>(grid.scale)),
                                      0.0, static_cast<double>(top));
          error +=
              static_cast<double>(weights[i]) *
              std::pow(static_cast<double>(grid.scale) * q + static_cast<double>(grid.bias) - static_cast<double>(x[i]),
                       2);
        }
        return error;
      };
      EXPECT_LE(error_of(fitted), error_of(start) * 1.0001) << bits;
      EXPECT_NEAR(static_cast<double>(fitted.error), error_of(fitted), 1e-3 * error_of(fitted) + 1e-12) << bits;
      EXPECT_EQ(round_to_stored(fitted.scale, DType::kBF16), fitted.scale);
      EXPECT_EQ(round_to_stored(fitted.bias, DType::kBF16), fitted.bias);
    }
  }
}

}  // namespace
}  // namespace mobilellm
