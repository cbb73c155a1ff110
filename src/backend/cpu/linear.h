/// A matrix product with a stored weight: picks the kernel once, then computes any range of output rows.
#pragma once

#include "kernels/kernels.h"
#include "model/weights.h"

namespace mobilellm {

/// Reads the weight where it lies in its file. Formats with a row kernel are multiplied directly; others are decoded, a
/// few rows at a time, into the worker's scratch first. Either way the arithmetic is that of the decoded f32 values.
class Linear {
 public:
  /// Floats of scratch that a worker needs for weights of up to `max_cols` columns.
  static size_t scratch_floats(int64_t max_cols);

  Linear() = default;
  Linear(LinearWeights weights, const KernelTable& kernels);

  int64_t rows() const { return weights_.matrix.rows; }
  int64_t cols() const { return weights_.matrix.cols; }

  /// Rows that one task should compute for `n_tokens` tokens on `n_threads` threads. Results do not depend on it.
  int64_t task_rows(int n_tokens, int n_threads) const;

  /// y[t * y_stride + r] = (W x_t + b)[r] for r in [row_begin, row_end); y points at row 0.
  void run(int64_t row_begin, int64_t row_end, const float* x, int64_t x_stride, int n_tokens, float* y,
           int64_t y_stride, float* scratch) const;

 private:
  LinearWeights weights_;
  void (*kernel_)(const DotRowsArgs&) noexcept = nullptr;
  bool needs_decoding_ = false;
  size_t row_bytes_ = 0;
};

}  // namespace mobilellm
