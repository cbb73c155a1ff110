// Sums over a group of values for the codes that given grids round them to; included by each ISA file.
#include "kernels/kernels.h"

namespace {

using mobilellm::GridErrorsArgs;
using mobilellm::GridLine;
using mobilellm::GridSumsArgs;

// The code of each lane: the nearest whole number within the range, `low` for NaN.
inline Vec16 grid_codes(Vec16 x, Vec16 bias, Vec16 inverse, Vec16 low, Vec16 high) {
  return Vec16::min(Vec16::max(Vec16::round((x - bias) * inverse), low), high);
}

void affine_grid_sums(const GridSumsArgs& a) noexcept {
  const Vec16 low = Vec16::set1(a.low);
  const Vec16 high = Vec16::set1(a.high);
  for (int i = 0; i < a.n_lines; ++i) {
    const GridLine& line = a.lines[i];
    const Vec16 bias = Vec16::set1(line.bias);
    const Vec16 center = Vec16::set1(line.center);
    const Vec16 inverse = Vec16::set1(1.0F / line.scale);
    Vec16 q = Vec16::zero();
    Vec16 qq = Vec16::zero();
    Vec16 xq = Vec16::zero();
    for (int k = 0; k < a.n; k += 16) {
      const Vec16 x = Vec16::load(a.x + k);
      const Vec16 code = grid_codes(x, bias, inverse, low, high);
      const Vec16 weighted = Vec16::load(a.weights + k) * code;
      q = q + weighted;
      qq = Vec16::fma(weighted, code, qq);
      xq = Vec16::fma(weighted, x - center, xq);
    }
    a.sums[i] = {q.reduce_add(), qq.reduce_add(), xq.reduce_add()};
  }
}

void affine_grid_errors(const GridErrorsArgs& a) noexcept {
  const Vec16 low = Vec16::set1(a.low);
  const Vec16 high = Vec16::set1(a.high);
  for (int i = 0; i < a.n_lines; ++i) {
    const GridLine& line = a.lines[i];
    const Vec16 bias = Vec16::set1(line.bias);
    const Vec16 scale = Vec16::set1(line.scale);
    const Vec16 inverse = Vec16::set1(1.0F / line.scale);
    Vec16 error = Vec16::zero();
    for (int k = 0; k < a.n; k += 16) {
      const Vec16 x = Vec16::load(a.x + k);
      const Vec16 code = grid_codes(x, bias, inverse, low, high);
      const Vec16 difference = Vec16::fma(scale, code, bias) - x;
      error = Vec16::fma(Vec16::load(a.weights + k) * difference, difference, error);
    }
    a.errors[i] = error.reduce_add();
  }
}

}  // namespace
