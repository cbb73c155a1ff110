// Every registered codec against values that llama.cpp and MLX decoded, in whole and by row ranges, and wrong sizes.
#include "codec/codec.h"

#include <fmt/core.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <set>

#include "formats/gguf.h"
#include "formats/safetensors.h"
#include "tests/support/scratch_folder.h"

namespace mobilellm {
namespace {

const std::string kVectors = MOBILELLM_SOURCE_DIR "/tests/vectors/codec/";
const std::string kModels = MOBILELLM_SOURCE_DIR "/tests/golden/mlx/";

std::vector<float> decode_all(const StoredMatrix& matrix) {
  std::vector<float> out(static_cast<size_t>(matrix.rows * matrix.cols));
  matrix.codec->decode_rows(matrix, 0, matrix.rows, out.data());
  return out;
}

// A matrix of the golden files and the values it must decode to.
struct Golden {
  std::string name;
  std::shared_ptr<WeightSource> matrix_file;
  std::shared_ptr<WeightSource> values_file;
  StoredMatrix matrix;
  std::vector<float> expected;
};

std::vector<Golden> gguf_goldens() {
  std::vector<Golden> goldens;
  const std::shared_ptr<GgufFile> file = GgufFile::open(kVectors + "quants.gguf");
  const std::shared_ptr<WeightSource> values = open_safetensors(kVectors + "quants.safetensors");
  for (const TensorView& tensor : file->tensors()) {
    if (!tensor.unsupported_type.empty()) continue;
    const std::string type = tensor.name.substr(2);
    const TensorView* expected = values->find("dequant." + type);
    if (expected == nullptr) expected = &values->get("x");  // F32 itself.
    goldens.push_back({tensor.name, file, values, make_matrix(tensor), decode_tensor(*expected)});
  }
  return goldens;
}

std::vector<Golden> mlx_goldens() {
  std::vector<Golden> goldens;
  const std::shared_ptr<WeightSource> file = open_safetensors(kVectors + "quantize_matrix.safetensors");
  const auto add = [&](const std::string& name, QuantizationParams params) {
    const StoredMatrix matrix = make_quantized_matrix(file->get(name + ".q"), file->get(name + ".scales"),
                                                      file->find(name + ".biases"), params);
    goldens.push_back({name, file, file, matrix, decode_tensor(file->get(name + ".dequant"))});
  };
  for (const int bits : {2, 3, 4, 5, 6, 8}) {
    for (const int group : {32, 64, 128}) {
      add(fmt::format("affine_b{}_g{}", bits, group), {QuantMode::kAffine, bits, group});
    }
  }
  add("mxfp4", {QuantMode::kMxfp4, 4, 32});
  add("nvfp4", {QuantMode::kNvfp4, 4, 16});
  add("mxfp8", {QuantMode::kMxfp8, 8, 32});
  return goldens;
}

std::vector<Golden> all_goldens() {
  std::vector<Golden> goldens = gguf_goldens();
  std::vector<Golden> more = mlx_goldens();
  goldens.insert(goldens.end(), more.begin(), more.end());
  return goldens;
}

TEST(Codec, DecodesGgufTypesExactly) {
  const std::vector<Golden> goldens = gguf_goldens();
  EXPECT_EQ(goldens.size(), 16U);
  for (const Golden& golden : goldens) EXPECT_EQ(decode_all(golden.matrix), golden.expected) << golden.name;
}

TEST(Codec, DecodesMlxModes) {
  for (const Golden& golden : mlx_goldens()) {
    const std::vector<float> got = decode_all(golden.matrix);
    ASSERT_EQ(got.size(), golden.expected.size());
    // MLX may fuse the product and the sum of affine groups; the small floats are products and exact.
    const float tolerance = golden.name.starts_with("affine") ? 1e-6F : 0.0F;
    for (size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], golden.expected[i], tolerance) << golden.name << i;
  }
}

TEST(Codec, EveryCodecHasAGolden) {
  std::set<std::string> seen = {"f64", "f8_e4m3", "f8_e5m2"};  // Tested below.
  for (const Golden& golden : all_goldens()) seen.insert(golden.matrix.codec->name());
  for (const Codec* codec : all_codecs()) {
    EXPECT_TRUE(seen.contains(codec->name())) << codec->name();
    EXPECT_EQ(find_codec(codec->name()), codec);
  }
  EXPECT_EQ(seen.size(), all_codecs().size());
  EXPECT_EQ(find_codec("no such codec"), nullptr);
  EXPECT_EQ(find_codec(DType::kI32), nullptr);
  EXPECT_EQ(find_codec(DType::kU8), nullptr);
}

// Any range of rows must give the rows of the whole, and touch nothing around them, at any alignment of the data.
TEST(Codec, RowRangesAreRowsOfTheWholeAtAnyAlignment) {
  constexpr float kUntouched = -12345.0F;
  for (const Golden& golden : all_goldens()) {
    const std::vector<float> whole = decode_all(golden.matrix);
    StoredMatrix moved = golden.matrix;
    std::vector<std::byte> storage(stored_bytes(moved) + 3);
    std::byte* next = storage.data() + 1;
    for (std::span<const std::byte>* part : {&moved.data, &moved.scales, &moved.biases}) {
      if (part->empty()) continue;
      std::memcpy(next, part->data(), part->size());
      *part = {next, part->size()};
      next += part->size();
    }
    for (int64_t begin = 0; begin <= moved.rows; ++begin) {
      for (const int64_t end : {begin, std::min(begin + 1, moved.rows), moved.rows}) {
        std::vector<float> out(static_cast<size_t>((end - begin) * moved.cols) + 2, kUntouched);
        moved.codec->decode_rows(moved, begin, end, out.data() + 1);
        EXPECT_EQ(out.front(), kUntouched);
        EXPECT_EQ(out.back(), kUntouched);
        ASSERT_TRUE(std::equal(out.begin() + 1, out.end() - 1, whole.begin() + begin * moved.cols)) << golden.name;
      }
    }
  }
}

TEST(Codec, SizesPerWeight) {
  const std::map<std::string, double> bits = {
      {"t.q4_K", 4.5}, {"t.q6_K", 6.5625}, {"affine_b4_g64", 5.0}, {"nvfp4", 4.5}, {"t.bf16", 16.0}};
  size_t n_known = 0;
  for (const Golden& golden : all_goldens()) {
    const StoredMatrix& matrix = golden.matrix;
    EXPECT_EQ(matrix.cols % matrix.codec->block_values(matrix), 0) << golden.name;
    EXPECT_EQ(data_row_bytes(matrix) * static_cast<size_t>(matrix.rows), matrix.data.size()) << golden.name;
    const auto known = bits.find(golden.name);
    if (known == bits.end()) continue;
    EXPECT_DOUBLE_EQ(bits_per_weight(matrix), known->second) << golden.name;
    ++n_known;
  }
  EXPECT_EQ(n_known, bits.size());
}

TEST(Codec, DecodesQuantizedModels) {
  int n_tensors = 0;
  for (const char* name : {"r1_q2_g64", "r1_q3_g64", "r1_q4_g32", "r1_q4_g64", "r1_q4_g128", "r1_q6_g64", "r1_q8_g64",
                           "r1_bf16_q4_g64", "r1_f16_q8_g32", "r1_mixed_4_6", "r1_dynamic", "r1_q4_noembed", "r1_mxfp4",
                           "r1_nvfp4", "r1_mxfp8", "llama_untied_q4_g64", "qwen3_q4_g64", "gemma3_q4_g64"}) {
    const std::string folder = kModels + name + "/";
    if (!std::filesystem::exists(folder)) continue;
    const auto config = parse_quantization_config(Json::parse_file(folder + "config.json"), folder + "config.json");
    ASSERT_TRUE(config.has_value());
    const auto model = open_safetensors(folder + "model.safetensors");
    const auto golden = open_safetensors(folder + "golden.safetensors");
    EXPECT_EQ(*model->find_metadata("format"), "mlx");
    for (const TensorView& expected_view : golden->tensors()) {
      if (!expected_view.name.starts_with("dequant.")) continue;
      const std::string weight_name = expected_view.name.substr(8);
      const std::string module = weight_name.substr(0, weight_name.size() - 7);
      const TensorView& weight = model->get(weight_name);
      const TensorView* scales = model->find(module + ".scales");
      const StoredMatrix matrix =
          scales == nullptr
              ? make_matrix(weight)
              : make_quantized_matrix(weight, *scales, model->find(module + ".biases"), *config->params_for(module));
      const std::vector<float> expected = decode_tensor(expected_view);
      ASSERT_EQ(matrix.cols, expected_view.shape[1]) << name << " " << weight_name;
      std::vector<float> got(expected.size());
      matrix.codec->decode_rows(matrix, 0, expected_view.shape[0], got.data());
      for (size_t i = 0; i < got.size(); ++i)
        ASSERT_NEAR(got[i], expected[i], 1e-6F) << name << " " << weight_name << i;
      ++n_tensors;
    }
  }
  if (n_tensors == 0) GTEST_SKIP() << "no models in " << kModels;
}

TensorView view(const char* name, DType dtype, std::vector<int64_t> shape, std::span<const std::byte> data) {
  TensorView tensor;
  tensor.name = name;
  tensor.dtype = dtype;
  tensor.shape = std::move(shape);
  tensor.data = data;
  return tensor;
}

TEST(Codec, ScalarTypes) {
  const double doubles[] = {1.5, -2.25, 1e300};
  EXPECT_EQ(decode_tensor(view("d", DType::kF64, {3}, std::as_bytes(std::span(doubles)))),
            (std::vector<float>{1.5F, -2.25F, std::numeric_limits<float>::infinity()}));
  const uint8_t bytes[] = {0x38, 0xC0, 0x01, 0x7E};
  EXPECT_EQ(decode_tensor(view("e4m3", DType::kF8E4M3, {2, 2}, std::as_bytes(std::span(bytes)))),
            (std::vector<float>{1.0F, -2.0F, 0x1p-9F, 448.0F}));
  const uint8_t wide[] = {0x3C, 0xC0, 0x01, 0x7B};
  EXPECT_EQ(decode_tensor(view("e5m2", DType::kF8E5M2, {4}, std::as_bytes(std::span(wide)))),
            (std::vector<float>{1.0F, -2.0F, 0x1p-16F, 57344.0F}));
}

TEST(Codec, ShapesBecomeRows) {
  const std::vector<std::byte> data(4 * 24);
  EXPECT_EQ(make_matrix(view("t", DType::kF32, {2, 3, 4}, data)).rows, 6);
  EXPECT_EQ(make_matrix(view("t", DType::kF32, {24}, data)).rows, 1);
  EXPECT_EQ(make_matrix(view("t", DType::kF32, {}, std::span(data).first(4))).cols, 1);
  EXPECT_EQ(make_matrix(view("t", DType::kF32, {0, 4}, {})).rows, 0);
  EXPECT_EQ(decode_tensor(view("t", DType::kF32, {0, 4}, {})).size(), 0U);
}

TEST(Codec, NonFiniteScalesDecodeAsTheyAre) {
  std::vector<std::byte> block(18);
  block[1] = std::byte{0x7E};  // d = NaN
  for (const float value : decode_tensor(view("q", DType::kQ4_0, {32}, block))) EXPECT_TRUE(std::isnan(value));
  block[1] = std::byte{0x7C};  // d = infinity; every q is 0 - 8
  for (const float value : decode_tensor(view("q", DType::kQ4_0, {32}, block))) EXPECT_TRUE(std::isinf(value));
  std::vector<std::byte> mx(17, std::byte{0x11});
  mx[0] = std::byte{0xFF};
  for (const float value : decode_tensor(view("q", DType::kMXFP4, {32}, mx))) EXPECT_TRUE(std::isnan(value));
}

TEST(Codec, RefusesWrongSizesOfPlainAndBlockTypes) {
  const std::vector<std::byte> data(144);
  expect_error(ErrorCode::kCorruptData, {"'w'", "576", "256", "Q4_K"},
               [&] { make_matrix(view("w", DType::kQ4_K, {576}, data)); });
  for (size_t n = 0; n < data.size(); ++n) {
    expect_error(ErrorCode::kCorruptData, {"'w'", std::to_string(n), "144"},
                 [&] { make_matrix(view("w", DType::kQ4_K, {256}, std::span(data).first(n))); });
  }
  expect_error(ErrorCode::kUnsupported, {"'ids'", "I64"}, [&] { make_matrix(view("ids", DType::kI64, {18}, data)); });
  TensorView unsupported = view("w", DType::kU8, {256}, data);
  unsupported.unsupported_type = "IQ1_S";
  expect_error(ErrorCode::kUnsupported, {"'w'", "IQ1_S"}, [&] { make_matrix(unsupported); });
}

// Packed weights of 4 rows of 128 values at 4 bits in groups of 64.
class Packed : public ::testing::Test {
 protected:
  std::vector<std::byte> bytes_ = std::vector<std::byte>(4096);
  std::span<const std::byte> bytes(size_t n) const { return std::span(bytes_).first(n); }
  TensorView weight_ = view("a.weight", DType::kU32, {4, 16}, bytes(256));
  TensorView scales_ = view("a.scales", DType::kBF16, {4, 2}, bytes(16));
  TensorView biases_ = view("a.biases", DType::kBF16, {4, 2}, bytes(16));
  void expect_refused(std::initializer_list<std::string> parts, int bits = 4, int group = 64) const {
    expect_error(ErrorCode::kCorruptData, parts, [&] { make_affine_matrix(weight_, scales_, biases_, bits, group); });
  }
};

TEST_F(Packed, AcceptsWhatItDescribes) {
  const StoredMatrix matrix = make_affine_matrix(weight_, scales_, biases_, 4, 64);
  EXPECT_EQ(matrix.rows, 4);
  EXPECT_EQ(matrix.cols, 128);
  EXPECT_EQ(matrix.scale_dtype, DType::kBF16);
  EXPECT_EQ(matrix.name, "a.weight");
}

TEST_F(Packed, RefusesOtherWidths) {
  expect_refused({"a.weight", "[4, 16]", "3 bits"}, 3);  // 512 bits are no groups of 64 * 3.
  expect_refused({"a.scales", "[4, 2]", "[4, 1]"}, 8);
  expect_refused({"a.scales", "[4, 2]", "[4, 4]"}, 4, 32);
  expect_error(ErrorCode::kInvalidArgument, {"bits", "7"},
               [&] { make_affine_matrix(weight_, scales_, biases_, 7, 64); });
  expect_error(ErrorCode::kInvalidArgument, {"group_size", "0"},
               [&] { make_affine_matrix(weight_, scales_, biases_, 4, 0); });
}

TEST_F(Packed, RefusesWrongTypes) {
  weight_.dtype = DType::kI32;
  expect_refused({"a.weight", "I32", "U32"});
  weight_.dtype = DType::kU32;
  biases_.dtype = DType::kF16;
  expect_refused({"a.biases", "F16", "BF16"});
  scales_.dtype = biases_.dtype = DType::kI16;
  expect_refused({"a.scales", "I16"});
}

TEST_F(Packed, RefusesWrongShapesAndBytes) {
  scales_.shape = {2, 4};
  expect_refused({"a.scales", "[2, 4]", "[4, 2]"});
  scales_.shape = {8};
  expect_refused({"a.scales", "[8]", "2 dimensions"});
  scales_.shape = {4, 2};
  biases_.shape = {4, 1};
  expect_refused({"a.biases", "[4, 1]", "[4, 2]"});
  biases_.shape = {4, 2};
  biases_.data = bytes(15);
  expect_refused({"a.biases", "15", "16"});
  biases_.data = bytes(16);
  weight_.data = bytes(255);
  expect_refused({"a.weight", "255", "256"});
  weight_.shape = {4, INT64_MAX / 16};
  expect_refused({"a.weight"});
}

TEST_F(Packed, SmallFloatsHaveNoBiases) {
  const QuantizationParams mxfp4 = {QuantMode::kMxfp4, 4, 32};
  TensorView scales = view("a.scales", DType::kU8, {4, 4}, bytes(16));
  EXPECT_EQ(make_quantized_matrix(weight_, scales, nullptr, mxfp4).cols, 128);
  expect_error(ErrorCode::kCorruptData, {"a.biases", "mxfp4"},
               [&] { make_quantized_matrix(weight_, scales, &biases_, mxfp4); });
  scales.dtype = DType::kI8;
  expect_error(ErrorCode::kCorruptData, {"a.scales", "I8", "U8"},
               [&] { make_quantized_matrix(weight_, scales, nullptr, mxfp4); });
  expect_error(ErrorCode::kCorruptData, {"a.weight", "biases"},
               [&] { make_quantized_matrix(weight_, scales_, nullptr, {QuantMode::kAffine, 4, 64}); });
}

}  // namespace
}  // namespace mobilellm
