/// Least-squares grids of one group: the scale and bias that lose least when every column's squared error has a weight.
#pragma once

#include <cstdint>

#include "tensor/dtype.h"

namespace mobilellm {

/// Values per group at most; groups are multiples of 16 values.
inline constexpr int kMaxFitValues = 128;

/// x ~ scale * q + bias, both exactly as they are stored.
struct AffineGrid {
  float scale = 0.0F;
  float bias = 0.0F;
  float error = 0.0F;  ///< sum of weight * (x - decoded)^2
};

/// Weights for the fits below from importances (or 1 for null): relative to the largest, with a floor, so that columns
/// that calibration never saw still count a little. Writes `n` values in (0, 1].
void make_fit_weights(const float* importance, int n, float* weights);

/// Fits the grid of codes q in [0, top] to `n` values by alternating least squares from several start points, with
/// scale and bias representable in `stored` (kF32, kF16 or kBF16). `start`, when given, is one of the candidates: the
/// result is never worse. Deterministic; sums run in sixteen lanes.
AffineGrid fit_affine(const float* x, const float* weights, int n, int top, DType stored, const AffineGrid* start);

/// As fit_affine() for codes q in [-levels, levels - 1] without bias; bias stays 0.
AffineGrid fit_scale(const float* x, const float* weights, int n, int levels, DType stored);

/// The grid of mx.quantize for a group whose values span [min, max], before rounding to its stored type; error stays 0.
AffineGrid choose_mlx_grid(float min, float max, int top);

/// The value that a float becomes when stored in kF32, kF16 or kBF16.
float round_to_stored(float value, DType stored);

}  // namespace mobilellm
