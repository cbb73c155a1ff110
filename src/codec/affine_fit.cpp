// Least-squares grids of one group.
#include "codec/affine_fit.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "tensor/float_convert.h"

namespace mobilellm {
namespace {

constexpr int kLanes = 16;
// Starts: grids that give up 0 to 4 steps of the range at either end. Measured against 144 starts on Gaussian groups
// with log-normal weights, 25 starts of which five go on lose 0.6 % of error at 2 to 4 bits, 1.7 % at 6; starts that
// shrink evenly lose 6 to 12 %.
constexpr int kEndSteps = 5;
constexpr int kKept = 5;
constexpr int kRounds = 3;

// Half to even for |x| < 2^22, without a call.
inline float round_small(float x) {
  constexpr float kShift = 12582912.0F;  // 1.5 * 2^23: its unit is 1.
  return (x + kShift) - kShift;
}

inline float clamp(float x, float low, float high) {
  const float raised = x > low ? x : low;  // `low` for NaN.
  return raised < high ? raised : high;
}

float sum_lanes(const float* lanes) {
  float half[kLanes / 2];
  for (int k = 0; k < kLanes / 2; ++k) half[k] = lanes[k] + lanes[k + kLanes / 2];
  for (int step = kLanes / 4; step > 0; step /= 2) {
    for (int k = 0; k < step; ++k) half[k] += half[k + step];
  }
  return half[0];
}

// The grid's integers: q in [low, high].
struct Levels {
  float low;
  float high;
};

struct Line {
  float scale = 0.0F;
  float bias = 0.0F;
};

// Sums over a group for the codes of one line, x relative to `center`.
struct Sums {
  float q = 0.0F;
  float qq = 0.0F;
  float xq = 0.0F;
};

Sums sum_codes(const float* x, const float* weights, int n, Levels levels, Line line, float center) {
  float q_lanes[kLanes] = {};
  float qq_lanes[kLanes] = {};
  float xq_lanes[kLanes] = {};
  const float inverse = 1.0F / line.scale;
  for (int i = 0; i < n; i += kLanes) {
    for (int k = 0; k < kLanes; ++k) {
      const float code =
          clamp(round_small(clamp((x[i + k] - line.bias) * inverse, -4096.0F, 4096.0F)), levels.low, levels.high);
      const float wq = weights[i + k] * code;
      q_lanes[k] += wq;
      qq_lanes[k] += wq * code;
      xq_lanes[k] += wq * (x[i + k] - center);
    }
  }
  return {sum_lanes(q_lanes), sum_lanes(qq_lanes), sum_lanes(xq_lanes)};
}

float error_of(const float* x, const float* weights, int n, Levels levels, Line line) {
  float lanes[kLanes] = {};
  const float inverse = 1.0F / line.scale;
  for (int i = 0; i < n; i += kLanes) {
    for (int k = 0; k < kLanes; ++k) {
      const float code =
          clamp(round_small(clamp((x[i + k] - line.bias) * inverse, -4096.0F, 4096.0F)), levels.low, levels.high);
      const float difference = line.scale * code + line.bias - x[i + k];
      lanes[k] += weights[i + k] * difference * difference;
    }
  }
  return sum_lanes(lanes);
}

// What does not change while a group is fitted.
struct Group {
  const float* x;
  const float* weights;
  int n;
  Levels levels;
  DType stored;
  float sum_w = 0.0F;
  float center = 0.0F;  // Weighted mean: sums relative to it cancel less.
};

bool is_usable(float scale) { return std::fabs(scale) >= std::numeric_limits<float>::min() && std::isfinite(scale); }

// Least squares over both numbers for the codes that `line` gives; false when they do not determine a line.
bool refit_line(const Group& group, Line& line) {
  const Sums sums = sum_codes(group.x, group.weights, group.n, group.levels, line, group.center);
  const double determinant = static_cast<double>(group.sum_w) * static_cast<double>(sums.qq) -
                             static_cast<double>(sums.q) * static_cast<double>(sums.q);
  if (!(determinant > 1e-9 * static_cast<double>(group.sum_w) * static_cast<double>(sums.qq))) return false;
  const double scale = static_cast<double>(group.sum_w) * static_cast<double>(sums.xq) / determinant;
  if (!is_usable(static_cast<float>(scale))) return false;
  line.scale = static_cast<float>(scale);
  line.bias = group.center - static_cast<float>(scale * static_cast<double>(sums.q) / static_cast<double>(group.sum_w));
  return true;
}

// Keeps the better of `best` and the stored form of a line. Rounding the bias moves all values at once: the scale is
// fitted again around it.
void consider(const Group& group, Line line, bool has_bias, AffineGrid& best) {
  line.bias = has_bias ? round_to_stored(line.bias, group.stored) : 0.0F;
  for (int attempt = 0; attempt < 2; ++attempt) {
    const Line stored = {round_to_stored(line.scale, group.stored), line.bias};
    if (!is_usable(stored.scale)) return;
    const float error = error_of(group.x, group.weights, group.n, group.levels, stored);
    if (error < best.error) best = {stored.scale, stored.bias, error};
    const Sums sums = sum_codes(group.x, group.weights, group.n, group.levels, stored, stored.bias);
    if (!(sums.qq > 0.0F)) return;
    line.scale = sums.xq / sums.qq;
  }
}

// Fits from several starts and takes the best ones further.
void fit_from_starts(const Group& group, float min, float max, float top, AffineGrid& best) {
  struct Candidate {
    Line line;
    float error;
  };
  const float range = max - min;
  const float end_step = top < 8.0F ? 0.06F : 0.5F / top;
  Candidate candidates[kEndSteps * kEndSteps];
  int n = 0;
  for (int i = 0; i < kEndSteps; ++i) {
    for (int j = 0; j < kEndSteps; ++j) {
      const float low = end_step * static_cast<float>(i);
      const float high = end_step * static_cast<float>(j);
      Line line = {range * (1.0F - low - high) / top, min + low * range};
      if (!is_usable(line.scale) || !refit_line(group, line)) continue;
      candidates[n++] = {line, error_of(group.x, group.weights, group.n, group.levels, line)};
    }
  }
  std::stable_sort(candidates, candidates + n,
                   [](const Candidate& a, const Candidate& b) { return a.error < b.error; });
  for (int c = 0; c < std::min(n, kKept); ++c) {
    Line line = candidates[c].line;
    for (int round = 0; round < kRounds; ++round) {
      const float before = line.scale;
      if (!refit_line(group, line) || std::fabs(line.scale - before) <= 1e-5F * std::fabs(before)) break;
    }
    consider(group, line, true, best);
  }
}

}  // namespace

float round_to_stored(float value, DType stored) {
  if (stored == DType::kF16) return fp16_to_float(float_to_fp16(value));
  return stored == DType::kBF16 ? bf16_to_float(float_to_bf16(value)) : value;
}

AffineGrid choose_mlx_grid(float min, float max, int top) {
  constexpr float kMinScale = 1e-7F;
  const bool is_min_edge = std::fabs(min) > std::fabs(max);
  float scale = std::max((max - min) / static_cast<float>(top), kMinScale);
  if (!is_min_edge) scale = -scale;
  const float edge = is_min_edge ? min : max;
  const float level = std::nearbyint(edge / scale);
  if (level == 0.0F) return {scale, 0.0F, 0.0F};
  return {edge / level, edge, 0.0F};
}

void make_fit_weights(const float* importance, int n, float* weights) {
  constexpr float kFloor = 1e-5F;
  float largest = 0.0F;
  if (importance != nullptr) largest = *std::max_element(importance, importance + n);
  if (importance == nullptr || !is_usable(largest)) {
    std::fill_n(weights, n, 1.0F);
    return;
  }
  for (int i = 0; i < n; ++i) weights[i] = std::max(importance[i] / largest, kFloor);
}

AffineGrid fit_affine(const float* x, const float* weights, int n, int top, DType stored, const AffineGrid* start) {
  Group group = {x, weights, n, {0.0F, static_cast<float>(top)}, stored};
  float min = x[0];
  float max = x[0];
  double sum_w = 0.0;
  double sum_x = 0.0;
  for (int i = 0; i < n; ++i) {
    min = x[i] < min ? x[i] : min;
    max = x[i] > max ? x[i] : max;
    sum_w += static_cast<double>(weights[i]);
    sum_x += static_cast<double>(weights[i]) * static_cast<double>(x[i]);
  }
  group.sum_w = static_cast<float>(sum_w);
  group.center = static_cast<float>(sum_x / sum_w);
  AffineGrid best;
  best.error = std::numeric_limits<float>::infinity();
  if (start != nullptr) {
    const Line line = {start->scale, start->bias};
    best = {line.scale, line.bias, error_of(x, weights, n, group.levels, line)};
    Line fitted = line;
    if (refit_line(group, fitted)) consider(group, fitted, true, best);
  }
  fit_from_starts(group, min, max, static_cast<float>(top), best);
  if (std::isinf(best.error)) {
    // A constant group: the bias alone. The scale is MLX's smallest.
    const float scale = round_to_stored(1e-7F, stored);
    const float bias = round_to_stored(group.center, stored);
    best = {is_usable(scale) ? scale : 1.0F, bias, 0.0F};
    best.error = error_of(x, weights, n, group.levels, {best.scale, bias});
  }
  return best;
}

AffineGrid fit_scale(const float* x, const float* weights, int n, int levels, DType stored) {
  const Group group = {x, weights, n, {static_cast<float>(-levels), static_cast<float>(levels - 1)}, stored};
  float extreme = 0.0F;
  for (int i = 0; i < n; ++i) extreme = std::max(extreme, std::fabs(x[i]));
  AffineGrid best;
  float lanes[kLanes] = {};
  for (int i = 0; i < n; ++i) lanes[i % kLanes] += weights[i] * x[i] * x[i];
  best.error = sum_lanes(lanes);  // That of scale 0.
  // The lowest code may stand at either end, inside or beyond the extreme value.
  constexpr int kSteps = 12;
  for (int step = -kSteps; step <= kSteps; ++step) {
    for (const float sign : {-1.0F, 1.0F}) {
      const float reach = static_cast<float>(levels) * (1.0F + 0.03F * static_cast<float>(step));
      Line line = {sign * extreme / reach, 0.0F};
      if (!is_usable(line.scale)) continue;
      consider(group, line, false, best);
    }
  }
  return best;
}

}  // namespace mobilellm
