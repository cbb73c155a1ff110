/// Activations as the panel kernels read them: a buffer of rows in 8 bits.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/kernels.h"

namespace mobilellm {

/// Grows to the largest batch and stays. Different rows, and different strips of a row, may be written by several
/// threads at once.
class ActivationCodes {
 public:
  /// Makes room for n_rows rows of `cols` numbers; what was there is lost.
  void reset(size_t n_rows, int64_t cols);
  /// What reset() made room for.
  const QuantizedRows& rows() const { return rows_; }
  /// Writes columns [col_begin, col_begin + n_cols) of a row from x[0 .. n_cols). col_begin is a multiple of
  /// kStripCols, and n_cols too unless the row ends there.
  void quantize(const KernelTable& kernels, size_t row, int64_t col_begin, int64_t n_cols, const float* x);

 private:
  QuantizedRows rows_{};
  std::vector<uint8_t> codes_;
  std::vector<StripNumbers> numbers_;
};

}  // namespace mobilellm
