// Where the strips of a row lie.
#include "backend/cpu/activations.h"

namespace mobilellm {

void ActivationCodes::reset(size_t n_rows, int64_t cols) {
  const int64_t n_strips = (cols + kStripCols - 1) / kStripCols;
  const size_t total = n_rows * static_cast<size_t>(n_strips);
  if (numbers_.size() < total) {
    codes_.resize(total * kStripCols);
    numbers_.resize(total);
  }
  rows_ = {codes_.data(), numbers_.data(), n_strips};
}

void ActivationCodes::quantize(const KernelTable& kernels, size_t row, int64_t col_begin, int64_t n_cols,
                               const float* x) {
  const int64_t at = static_cast<int64_t>(row) * rows_.n_strips + col_begin / kStripCols;
  const int64_t n_strips = (n_cols + kStripCols - 1) / kStripCols;
  kernels.quantize_rows({x, n_cols, 1, n_cols, {rows_.codes + at * kStripCols, rows_.numbers + at, n_strips}});
}

}  // namespace mobilellm
