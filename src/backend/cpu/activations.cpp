// Where the blocks of a row lie.
#include "backend/cpu/activations.h"

namespace mobilellm {

void ActivationCodes::reset(size_t n_rows, int64_t cols) {
  const int64_t n_blocks = (cols + kBlockCols - 1) / kBlockCols;
  const size_t total = n_rows * static_cast<size_t>(n_blocks);
  if (scales_.size() < total) {
    codes_.resize(total * kBlockCols);
    scales_.resize(total);
    sums_.resize(total);
    zeros_.resize(total);
  }
  rows_ = {codes_.data(), scales_.data(), zeros_.data(), sums_.data(), n_blocks};
}

void ActivationCodes::quantize(const KernelTable& kernels, size_t row, int64_t col_begin, int64_t n_cols,
                               const float* x) {
  const int64_t at = static_cast<int64_t>(row) * rows_.n_blocks + col_begin / kBlockCols;
  const int64_t n_blocks = (n_cols + kBlockCols - 1) / kBlockCols;
  kernels.quantize_rows(
      {x,
       n_cols,
       1,
       n_cols,
       {rows_.codes + at * kBlockCols, rows_.scales + at, rows_.zeros + at, rows_.sums + at, n_blocks}});
}

}  // namespace mobilellm
