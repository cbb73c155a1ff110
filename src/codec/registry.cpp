// The list of codecs, and the checks that turn tensors into stored matrices.
#include <algorithm>
#include <array>

#include "base/error.h"
#include "codec/families.h"

namespace mobilellm {
namespace {

struct DTypeRow {
  DType dtype;
  const char* codec;
};

// Which codec reads which stored type. Packed groups (affine and MLX's small floats) are chosen by make_*_matrix().
constexpr DTypeRow kByDType[] = {
    {DType::kF32, "f32"},        {DType::kF16, "f16"},        {DType::kBF16, "bf16"},        {DType::kF64, "f64"},
    {DType::kF8E4M3, "f8_e4m3"}, {DType::kF8E5M2, "f8_e5m2"}, {DType::kQ4_0, "q4_0"},        {DType::kQ4_1, "q4_1"},
    {DType::kQ5_0, "q5_0"},      {DType::kQ5_1, "q5_1"},      {DType::kQ8_0, "q8_0"},        {DType::kQ2_K, "q2_k"},
    {DType::kQ3_K, "q3_k"},      {DType::kQ4_K, "q4_k"},      {DType::kQ5_K, "q5_k"},        {DType::kQ6_K, "q6_k"},
    {DType::kIQ4_NL, "iq4_nl"},  {DType::kIQ4_XS, "iq4_xs"},  {DType::kMXFP4, "mxfp4_gguf"},
};

std::vector<const Codec*> collect() {
  std::vector<const Codec*> codecs;
  for (const auto& family : {plain_codecs(), affine_codecs(), gguf_legacy_codecs(), gguf_k_codecs(), mx_codecs()}) {
    codecs.insert(codecs.end(), family.begin(), family.end());
  }
  return codecs;
}

std::array<const Codec*, kDTypeCount> collect_by_dtype() {
  std::array<const Codec*, kDTypeCount> table{};
  for (const DTypeRow& row : kByDType) table[static_cast<size_t>(row.dtype)] = find_codec(row.codec);
  return table;
}

void expect_matrix(const TensorView& tensor, const char* role) {
  if (tensor.shape.size() != 2) {
    fail(ErrorCode::kCorruptData, "[codec] {}: {} with shape {}, expected 2 dimensions", describe(tensor), role,
         shape_text(tensor.shape));
  }
}

void expect_shape(const TensorView& tensor, const char* role, int64_t rows, int64_t cols) {
  if (tensor.shape.size() == 2 && tensor.shape[0] == rows && tensor.shape[1] == cols) return;
  fail(ErrorCode::kCorruptData, "[codec] {}: {} with shape {}, expected [{}, {}]", describe(tensor), role,
       shape_text(tensor.shape), rows, cols);
}

void expect_bytes(const TensorView& tensor, size_t expected) {
  if (tensor.data.size() == expected) return;
  fail(ErrorCode::kCorruptData, "[codec] {}: got {} bytes for type {} and shape {}, expected {}", describe(tensor),
       tensor.data.size(), tensor.type_name(), shape_text(tensor.shape), expected);
}

// Weight and scales of packed groups: the parts that affine and the small floats share.
StoredMatrix make_packed(const TensorView& weight, const TensorView& scales, const QuantizationParams& params,
                         const Codec* codec) {
  check_quantization_params(params);
  check_supported(weight);
  check_supported(scales);
  expect_matrix(weight, "packed weight");
  expect_matrix(scales, "scales");
  if (weight.dtype != DType::kU32) {
    fail(ErrorCode::kCorruptData, "[codec] {}: got type {}, expected U32 for a weight packed as {}", describe(weight),
         weight.type_name(), quant_mode_name(params.mode));
  }
  const int64_t rows = weight.shape[0];
  // 32 values of `bits` bits are `bits` words, and every row holds whole words of whole groups.
  const int64_t words = weight.shape[1];
  int64_t row_bits = 0;
  if (__builtin_mul_overflow(words, int64_t{32}, &row_bits) ||
      row_bits % (int64_t{params.bits} * params.group_size) != 0) {
    fail(ErrorCode::kCorruptData,
         "[codec] {}: got shape {}, expected rows of whole groups of {} values at {} bits (multiples of {} words)",
         describe(weight), shape_text(weight.shape), params.group_size, params.bits,
         std::max(1, params.bits * params.group_size / 32));
  }
  StoredMatrix matrix;
  matrix.codec = codec;
  matrix.rows = rows;
  matrix.cols = row_bits / params.bits;
  matrix.dtype = DType::kU32;
  matrix.bits = params.bits;
  matrix.group_size = params.group_size;
  matrix.name = weight.name;
  expect_shape(scales, "scales", rows, matrix.cols / params.group_size);
  expect_bytes(weight,
               checked_mul(static_cast<size_t>(rows), static_cast<size_t>(words) * 4, "bytes of a packed weight"));
  expect_bytes(scales,
               checked_mul(static_cast<size_t>(rows), row_bytes(scales.dtype, scales.shape[1]), "bytes of scales"));
  matrix.data = weight.data;
  matrix.scales = scales.data;
  matrix.scale_dtype = scales.dtype;
  return matrix;
}

}  // namespace

std::span<const Codec* const> all_codecs() {
  static const std::vector<const Codec*> codecs = collect();
  return codecs;
}

const Codec* find_codec(std::string_view name) {
  for (const Codec* codec : all_codecs()) {
    if (name == codec->name()) return codec;
  }
  return nullptr;
}

const Codec* find_codec(DType dtype) {
  static const std::array<const Codec*, kDTypeCount> table = collect_by_dtype();
  return table[static_cast<size_t>(dtype)];
}

size_t stored_bytes(const StoredMatrix& matrix) {
  return matrix.data.size() + matrix.scales.size() + matrix.biases.size();
}

double bits_per_weight(const StoredMatrix& matrix) {
  const double n = static_cast<double>(matrix.rows) * static_cast<double>(matrix.cols);
  return n == 0.0 ? 0.0 : static_cast<double>(stored_bytes(matrix)) * 8.0 / n;
}

size_t data_row_bytes(const StoredMatrix& matrix) {
  return matrix.rows == 0 ? 0 : matrix.data.size() / static_cast<size_t>(matrix.rows);
}

StoredMatrix make_matrix(const TensorView& tensor) {
  check_supported(tensor);
  StoredMatrix matrix;
  matrix.codec = find_codec(tensor.dtype);
  if (matrix.codec == nullptr) {
    fail(ErrorCode::kUnsupported, "[codec] {}: got type {}, expected a floating or quantized type", describe(tensor),
         tensor.type_name());
  }
  const int64_t n_values = checked_n_values(tensor.shape, tensor.name);
  matrix.cols = tensor.shape.empty() ? 1 : tensor.shape.back();
  matrix.rows = matrix.cols == 0 ? 0 : n_values / matrix.cols;
  const int64_t block = dtype_info(tensor.dtype).block_values;
  if (matrix.cols % block != 0) {
    fail(ErrorCode::kCorruptData, "[codec] {}: got rows of {} values, expected a multiple of {} for type {}",
         describe(tensor), matrix.cols, block, tensor.type_name());
  }
  expect_bytes(
      tensor, checked_mul(static_cast<size_t>(matrix.rows), row_bytes(tensor.dtype, matrix.cols), "bytes of a matrix"));
  matrix.dtype = tensor.dtype;
  matrix.data = tensor.data;
  matrix.name = tensor.name;
  return matrix;
}

StoredMatrix make_affine_matrix(const TensorView& weight, const TensorView& scales, const TensorView& biases, int bits,
                                int group_size) {
  StoredMatrix matrix = make_packed(weight, scales, {QuantMode::kAffine, bits, group_size}, affine_codec());
  if (scales.dtype != DType::kF32 && scales.dtype != DType::kF16 && scales.dtype != DType::kBF16) {
    fail(ErrorCode::kCorruptData, "[codec] {}: got type {}, expected F32, F16 or BF16 scales", describe(scales),
         scales.type_name());
  }
  check_supported(biases);
  if (biases.dtype != scales.dtype) {
    fail(ErrorCode::kCorruptData, "[codec] {}: got type {}, expected {}, the type of the scales", describe(biases),
         biases.type_name(), scales.type_name());
  }
  expect_shape(biases, "biases", matrix.rows, matrix.cols / group_size);
  expect_bytes(biases, matrix.scales.size());
  matrix.biases = biases.data;
  return matrix;
}

StoredMatrix make_fp_matrix(QuantMode mode, const TensorView& weight, const TensorView& scales) {
  const Codec* codec = mx_packed_codec(mode);
  QuantizationParams params;
  params.mode = mode;
  params.bits = mode == QuantMode::kMxfp8 ? 8 : 4;
  params.group_size = mode == QuantMode::kNvfp4 ? 16 : 32;
  StoredMatrix matrix = make_packed(weight, scales, params, codec);
  if (scales.dtype != DType::kU8) {
    fail(ErrorCode::kCorruptData, "[codec] {}: got type {}, expected U8 scales for {}", describe(scales),
         scales.type_name(), quant_mode_name(mode));
  }
  return matrix;
}

StoredMatrix make_quantized_matrix(const TensorView& weight, const TensorView& scales, const TensorView* biases,
                                   const QuantizationParams& params) {
  check_quantization_params(params);
  if (params.mode == QuantMode::kAffine) {
    if (biases == nullptr) {
      fail(ErrorCode::kCorruptData, "[codec] {}: got scales without biases, expected both (mode affine)",
           describe(weight));
    }
    return make_affine_matrix(weight, scales, *biases, params.bits, params.group_size);
  }
  if (biases != nullptr) {
    fail(ErrorCode::kCorruptData, "[codec] {}: got biases, expected none in mode {}", describe(*biases),
         quant_mode_name(params.mode));
  }
  return make_fp_matrix(params.mode, weight, scales);
}

std::vector<float> decode_tensor(const TensorView& tensor) {
  const StoredMatrix matrix = make_matrix(tensor);
  std::vector<float> values(static_cast<size_t>(matrix.rows * matrix.cols));
  matrix.codec->decode_rows(matrix, 0, matrix.rows, values.data());
  return values;
}

}  // namespace mobilellm
