/// Weight storage formats: how the bits of a stored matrix become numbers. One file per family, one list in
/// registry.cpp.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "codec/quantization_config.h"
#include "tensor/tensor_view.h"

namespace mobilellm {

class Codec;

/// One logical matrix [rows, cols] as it lies in a file. Made by the functions below, which check every size, so that
/// decoding needs no checks. Valid as long as the file.
struct StoredMatrix {
  const Codec* codec = nullptr;
  int64_t rows = 0;
  int64_t cols = 0;
  DType dtype = DType::kF32;          ///< Of `data`: scalar, GGUF block type, or kU32 for packed groups.
  std::span<const std::byte> data;    ///< Row-major, rows of row_bytes; maybe unaligned.
  std::span<const std::byte> scales;  ///< [rows, cols / group_size]; empty when the format has none.
  std::span<const std::byte> biases;  ///< As scales; empty when the format has none.
  DType scale_dtype = DType::kF32;    ///< kF32, kF16, kBF16 (affine) or kU8 (mxfp4, nvfp4, mxfp8).
  int bits = 0;                       ///< Of packed groups, else 0.
  int group_size = 0;                 ///< Values per scale of packed groups, else 0.
  std::string name;                   ///< Of the weight tensor.
};

/// Rows to encode: what encode_rows() (codec/encode.h) hands to a codec after its checks.
struct EncodeArgs {
  const StoredMatrix& format;  ///< cols, bits, group_size and scale_dtype count; its spans do not.
  int64_t n_rows;
  const float* values;      ///< [n_rows, cols], finite, magnitudes at most max_magnitude().
  const float* importance;  ///< [cols], finite, >= 0: how much a squared error in each column costs; or null.
  uint8_t* data;            ///< Row 0 of each part; scales and biases are null when the format has none.
  uint8_t* scales;
  uint8_t* biases;
};

/// How a quantized matrix is made of integers: w = scale * code + bias, with a scale (and maybe a bias) per group of a
/// row. Kernels that multiply integers start from it.
struct IntegerForm {
  int bits = 8;             ///< 2 to 6: codes in [0, 2^bits); 8: codes are signed bytes.
  int group = 32;           ///< Columns per scale: 16, 32, 64 or 128.
  bool has_biases = false;  ///< Never with groups of 16.
  /// kF16, kBF16 or kF32: holds every scale and bias exactly. kI8: scales and biases are whole numbers in [-128, 127],
  /// times an f16 outer scale (and bias) per kOuterCols columns.
  DType scale_dtype = DType::kF16;
  int zero = 0;                       ///< Subtracted from codes of 5 and 6 bits.
  int offset = 0;                     ///< Of formats with biases: w = scale * (code + offset) + bias.
  std::array<int8_t, 16> table = {};  ///< The values of codes of 2 to 4 bits.
};

/// Columns of one outer scale; rows with outer scales are multiples of it.
inline constexpr int64_t kOuterCols = 256;

/// Where read_integers() writes one row.
struct IntegerRow {
  uint8_t* codes;       ///< [cols]
  float* scales;        ///< [cols / group]
  float* biases;        ///< [cols / group]; untouched without biases
  float* outer_scales;  ///< [cols / kOuterCols]; these two untouched without outer scales
  float* outer_biases;  ///< [cols / kOuterCols]; untouched without biases
};

/// Stateless; one object per format, alive for the whole program.
class Codec {
 public:
  virtual ~Codec() = default;
  /// "bf16", "q4_k", "affine", "mxfp4" ...
  virtual const char* name() const = 0;
  /// A row is a multiple of this many values.
  virtual int64_t block_values(const StoredMatrix& matrix) const = 0;
  /// Writes rows [row_begin, row_end) as floats to out [row_end - row_begin, cols], computed in float32 in the format's
  /// own order. Any thread; allocates nothing. Scales that are NaN or infinite give what the arithmetic gives.
  virtual void decode_rows(const StoredMatrix& matrix, int64_t row_begin, int64_t row_end, float* out) const = 0;
  /// Writes the rows in the stored format, each row from its own values alone. Any thread; allocates nothing.
  /// Formats without a search (scalars, packed groups, q8_0, mxfp4) ignore `importance`.
  virtual void encode_rows(const EncodeArgs& args) const = 0;
  /// Largest magnitude of a value that encode_rows() takes: beyond it a stored scale would be infinite.
  virtual float max_magnitude(const StoredMatrix& format) const = 0;

  /// False for formats that are not integers with scales; then read_integers() must not be called.
  virtual bool integer_form(const StoredMatrix& /*matrix*/, IntegerForm& /*form*/) const { return false; }
  /// Any thread.
  virtual void read_integers(const StoredMatrix& /*matrix*/, int64_t /*row*/, const IntegerRow& /*out*/) const {}

 protected:
  Codec() = default;
};

/// Every codec, for listings and tests.
std::span<const Codec* const> all_codecs();
/// nullptr for an unknown name.
const Codec* find_codec(std::string_view name);
/// The codec of a scalar floating type or GGUF block type; nullptr for types that hold no weights (integers, bool).
const Codec* find_codec(DType dtype);

/// Bytes of data, scales and biases.
size_t stored_bytes(const StoredMatrix& matrix);
/// stored_bytes() * 8 / (rows * cols); 0 for an empty matrix.
double bits_per_weight(const StoredMatrix& matrix);
/// Bytes of one row of `data`.
size_t data_row_bytes(const StoredMatrix& matrix);

/// A scalar or GGUF block tensor as a matrix: leading dimensions are flattened into rows, a vector is one row.
/// Throws kUnsupported naming the tensor for a type without codec.
StoredMatrix make_matrix(const TensorView& tensor);
/// Packed groups with scales and biases as MLX writes them: weight U32 [out, in * bits / 32], scales and biases
/// [out, in / group_size] of one floating type. Throws kCorruptData naming the tensor, what it is and what was
/// expected.
StoredMatrix make_affine_matrix(const TensorView& weight, const TensorView& scales, const TensorView& biases, int bits,
                                int group_size);
/// Packed floats of MLX (mxfp4, nvfp4, mxfp8): weight U32, scales U8 [out, in / group_size].
StoredMatrix make_fp_matrix(QuantMode mode, const TensorView& weight, const TensorView& scales);
/// One of the two above, chosen by `params.mode`; biases must be null for the fp modes. Throws kCorruptData when biases
/// are missing or superfluous.
StoredMatrix make_quantized_matrix(const TensorView& weight, const TensorView& scales, const TensorView* biases,
                                   const QuantizationParams& params);

/// All values of a scalar or GGUF block tensor as floats, for norms and small tables.
std::vector<float> decode_tensor(const TensorView& tensor);

}  // namespace mobilellm
