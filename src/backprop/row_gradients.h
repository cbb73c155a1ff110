/// Norms and rotations of single rows, forward as the engine computes them, and their gradients.
#pragma once

#include <cstdint>
#include <vector>

#include "model/spec.h"

namespace mobilellm {

/// Gradient of y = x / sqrt(mean(x^2) + eps) * weight (null: ones) over n values: writes (or adds) d_x, adds to
/// d_weight [n] unless null. d_x may be d_y when it does not accumulate.
void rms_norm_backward(const float* x, const float* weight, const float* d_y, int64_t n, float eps, float* d_x,
                       bool accumulates, float* d_weight);

/// Cosines and sines of a RoPE table for positions 0 .. n_positions - 1, as the engine computes them.
class Rotation {
 public:
  Rotation(const RopeTable& table, int64_t n_positions);
  /// Rotates `n_heads` heads in place; `is_inverse` multiplies by the transposed matrix instead, which turns gradients
  /// of rotated heads into those of unrotated ones.
  void apply(RopeStyle style, int64_t pos, int head_dim, int n_heads, bool is_inverse, float* heads) const;

 private:
  int64_t half_;
  std::vector<float> cosines_, sines_;
};

}  // namespace mobilellm
