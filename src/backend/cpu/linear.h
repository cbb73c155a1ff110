/// A matrix product with a stored weight: picks the kernel once, then computes any range of output rows.
#pragma once

#include <optional>

#include "kernels/kernels.h"
#include "model/weights.h"

namespace mobilellm {

/// Two ways to compute. Panels: the integers of a quantized weight are repacked once, and multiplied with activations
/// in 8 bits. In place: the weight is read where it lies in its file and multiplied with f32 activations, directly
/// where its format has a row kernel, else decoded a few rows at a time into the worker's scratch; the arithmetic is
/// that of the decoded f32 values.
class Linear {
 public:
  Linear() = default;
  /// Computes in place until set_panels().
  Linear(LinearWeights weights, const KernelTable& kernels);

  int64_t rows() const { return weights_.matrix.rows; }
  int64_t cols() const { return weights_.matrix.cols; }
  const StoredMatrix& matrix() const { return weights_.matrix; }
  bool uses_panels() const { return panels_ != nullptr; }

  /// `panels` must stay and hold the packed matrix before run().
  void set_panels(const PanelLayout& layout, const std::byte* panels);
  const PanelLayout& layout() const { return layout_; }

  /// Bytes of scratch that a worker needs, at a multiple of 64.
  size_t scratch_bytes() const;
  /// Rows that one task should compute for `n_tokens` tokens on `n_threads` threads. Results do not depend on it.
  int64_t task_rows(int n_tokens, int n_threads) const;

  /// Activations of n_tokens rows; `quantized` is read when uses_panels(), else `x`.
  struct Input {
    const float* x;
    int64_t x_stride;
    QuantizedRows quantized;
    int n_tokens;
  };
  /// y[t * y_stride + r - row_begin] = (W x_t + b)[r] for r in [row_begin, row_end). row_begin is a multiple of
  /// kPanelRows or of task_rows(), the number of rows at most task_rows() or kPanelRows.
  void run(int64_t row_begin, int64_t row_end, const Input& input, float* y, int64_t y_stride,
           std::byte* scratch) const;

 private:
  void run_panels(int64_t row_begin, int64_t row_end, const Input& input, float* y, int64_t y_stride,
                  std::byte* scratch) const;
  void run_in_place(int64_t row_begin, int64_t row_end, const Input& input, float* y, int64_t y_stride,
                    float* scratch) const;

  LinearWeights weights_;
  const KernelTable* kernels_ = nullptr;
  void (*row_kernel_)(const DotRowsArgs&) noexcept = nullptr;
  bool needs_decoding_ = false;
  size_t row_bytes_ = 0;
  PanelLayout layout_;
  const std::byte* panels_ = nullptr;
};

}  // namespace mobilellm
