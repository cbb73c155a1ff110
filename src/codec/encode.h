/// From float rows to stored matrices of every format, with the checks that all codecs share.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "codec/codec.h"

namespace mobilellm {

class ThreadPool;

/// A stored matrix with the memory that it lies in. Rows are written by encode_rows(); until then they are zeros.
class EncodedMatrix {
 public:
  /// [rows, cols] as scalars (kF32, kF16, kBF16, kF64, kF8E4M3, kF8E5M2) or GGUF blocks. Throws kInvalidArgument when
  /// rows do not divide into blocks, saying what to do instead.
  EncodedMatrix(DType dtype, int64_t rows, int64_t cols, std::string name);
  /// [rows, cols] as packed groups. `scale_dtype` of affine groups is kF32, kF16 or kBF16 (MLX: that of the weight);
  /// the small floats ignore it.
  EncodedMatrix(const QuantizationParams& params, DType scale_dtype, int64_t rows, int64_t cols, std::string name);
  EncodedMatrix(EncodedMatrix&&) noexcept = default;
  EncodedMatrix& operator=(EncodedMatrix&&) noexcept = default;

  /// Valid as long as this object, also after it has moved.
  const StoredMatrix& view() const { return matrix_; }
  std::span<std::byte> data() { return data_; }
  std::span<std::byte> scales() { return scales_; }
  std::span<std::byte> biases() { return biases_; }
  /// Frees the codes, which have been written somewhere; scales and biases stay.
  void release_data() {
    data_ = {};
    matrix_.data = {};
  }

 private:
  StoredMatrix matrix_;
  std::vector<std::byte> data_;
  std::vector<std::byte> scales_;
  std::vector<std::byte> biases_;
};

/// Encodes values [row_end - row_begin, cols] as rows [row_begin, row_end). `importance` is empty or [cols], >= 0: the
/// cost of a squared error in each column, such as the mean square of that input. Different row ranges may be written
/// by different threads; the result does not depend on the split. Throws kCorruptData naming row and column for a value
/// that is NaN, infinite or too big for the format; kInvalidArgument for a wrong importance.
void encode_rows(EncodedMatrix& out, int64_t row_begin, int64_t row_end, const float* values,
                 std::span<const float> importance = {});
/// Writes rows [row_begin, row_end) of an affine matrix from codes [rows, cols], each below 2^bits, and scales and
/// biases [rows, cols / group_size], which are rounded to the type that the matrix stores.
void store_affine_rows(EncodedMatrix& out, int64_t row_begin, int64_t row_end, const uint8_t* codes,
                       const float* scales, const float* biases);
/// All rows, values [rows, cols], shared among the pool's threads.
void encode_matrix(EncodedMatrix& out, const float* values, std::span<const float> importance, ThreadPool& pool);

}  // namespace mobilellm
