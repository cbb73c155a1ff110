/// Searches for the scale (and minimum) of one block of a quantized format, shared by the families of GGUF types.
///
/// Every search takes `n` values with weights >= 0 (not all zero) and minimises the weighted squared error, unless it
/// says otherwise. The order of their arithmetic decides the bytes of files: sums run in rising index, in float,
/// without fused operations, so that blocks without an importance matrix get the same bytes as ggml's reference
/// quantizers.
#pragma once

#include <cstdint>

namespace mobilellm {

/// Values per block at most.
inline constexpr int kMaxBlockValues = 32;

/// Magnitudes below this count as zero.
inline constexpr float kZeroMagnitude = 1e-15F;

/// Nearest integer, half to even, of a float within +-2^22.
inline int nearest_integer(float x) {
  constexpr float kShift = 12582912.0F;  // 1.5 * 2^23: its unit is 1.
  return static_cast<int>((x + kShift) - kShift);
}

/// Nearest integer within [low, high]; `low` for NaN.
inline int nearest_within(float x, int low, int high) {
  const auto bottom = static_cast<float>(low);
  const auto top = static_cast<float>(high);
  const float raised = x > bottom ? x : bottom;
  return nearest_integer(raised < top ? raised : top);
}

/// The value of largest magnitude, the first one of equals; 0 for zeros.
float find_extreme(const float* x, int n);

/// Codes q in [-levels, levels - 1] of x ~ scale * q; tries 19 scales around the one that maps the extreme value to
/// -levels. Returns the least-squares scale, 0 for a block of zeros (codes are then -levels, as ggml has them).
float fit_symmetric(const float* x, const float* weights, int n, int levels, int8_t* codes);

/// As fit_symmetric() with weights x^2, from the one plain rounding by moving single codes while that helps.
float descend_symmetric(const float* x, int n, int levels, int8_t* codes);

/// Scales that fit_with_minimum() tries: (top + first + step * i) / range for i in [0, n_steps].
struct ScaleSteps {
  float first;
  float step;
  int n_steps;
  bool is_absolute;  ///< Minimise weighted absolute instead of squared errors.
};

/// Codes q in [0, top] of x ~ scale * q - minimum with minimum >= 0.
float fit_with_minimum(const float* x, const float* weights, int n, int top, const ScaleSteps& steps, uint8_t* codes,
                       float* minimum);

/// Codes q in [0, top] of x ~ scale * q for x >= 0.
float fit_nonnegative(const float* x, const float* weights, int n, int top, uint8_t* codes);

/// The 16 levels of the non-linear 4-bit types, rising.
inline constexpr int8_t kNonlinearLevels[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                                1,    13,   25,  38,  53,  69,  89,  113};
/// Index of the level nearest to x, the upper one of two equally near.
int nearest_level(float x);
/// Scale of x ~ scale * level(code); tries 16 scales.
float fit_levels(const float* x, const float* weights, int n);

}  // namespace mobilellm
