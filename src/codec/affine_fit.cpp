// Least-squares grids of one group.
#include "codec/affine_fit.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "kernels/kernels.h"
#include "tensor/float_convert.h"

namespace mobilellm {
namespace {

// Starts: grids that give up 0 to 4 steps of the range at either end. Measured against 144 starts on Gaussian groups
// with log-normal weights, 25 starts of which five go on lose 0.6 % of error at 2 to 4 bits, 1.7 % at 6; starts that
// shrink evenly lose 6 to 12 %.
constexpr int kEndSteps = 5;
constexpr int kKept = 5;
constexpr int kRounds = 3;

const KernelTable& kernels() {
  static const KernelTable& table = kernel_table(select_isa());
  return table;
}

bool is_usable(float scale) { return std::fabs(scale) >= std::numeric_limits<float>::min() && std::isfinite(scale); }

// What does not change while a group is fitted. Several lines at a time: their sums do not wait for each other.
struct Group {
  const float* x;
  const float* weights;
  int n;
  float low;  // Codes are in [low, high].
  float high;
  DType stored;
  float sum_w = 0.0F;
  float center = 0.0F;  // Weighted mean: sums relative to it cancel less.

  void sum(const GridLine* lines, int n_lines, GridSums* sums) const {
    kernels().affine_grid_sums({x, weights, n, low, high, lines, n_lines, sums});
  }
  void find_errors(const GridLine* lines, int n_lines, float* errors) const {
    kernels().affine_grid_errors({x, weights, n, low, high, lines, n_lines, errors});
  }
};

// Most lines that are looked at together.
constexpr int kMaxLines = 50;

// Least squares over both numbers for the codes that a line gives; false when they do not determine a line.
bool solve_line(const Group& group, const GridSums& sums, GridLine& line) {
  const double determinant = static_cast<double>(group.sum_w) * static_cast<double>(sums.qq) -
                             static_cast<double>(sums.q) * static_cast<double>(sums.q);
  if (!(determinant > 1e-9 * static_cast<double>(group.sum_w) * static_cast<double>(sums.qq))) return false;
  const double scale = static_cast<double>(group.sum_w) * static_cast<double>(sums.xq) / determinant;
  if (!is_usable(static_cast<float>(scale))) return false;
  line.scale = static_cast<float>(scale);
  line.bias = group.center - static_cast<float>(scale * static_cast<double>(sums.q) / static_cast<double>(group.sum_w));
  return true;
}

// Replaces lines by their least-squares fits and drops those that have none; returns how many are left.
int refit_lines(const Group& group, GridLine* lines, int n) {
  GridSums sums[kMaxLines];
  for (int i = 0; i < n; ++i) lines[i].center = group.center;
  group.sum(lines, n, sums);
  int n_left = 0;
  for (int i = 0; i < n; ++i) {
    GridLine line = lines[i];
    if (solve_line(group, sums[i], line)) lines[n_left++] = line;
  }
  return n_left;
}

// Keeps the better of `best` and the stored forms of lines. Rounding the bias moves all values at once: the scale is
// fitted again around it.
void consider(const Group& group, GridLine* lines, int n, bool has_bias, AffineGrid& best) {
  for (int i = 0; i < n; ++i) lines[i].bias = has_bias ? round_to_stored(lines[i].bias, group.stored) : 0.0F;
  for (int attempt = 0; attempt < 2; ++attempt) {
    int n_usable = 0;
    for (int i = 0; i < n; ++i) {
      const float scale = round_to_stored(lines[i].scale, group.stored);
      if (is_usable(scale)) lines[n_usable++] = {scale, lines[i].bias, lines[i].bias};
    }
    n = n_usable;
    float errors[kMaxLines];
    group.find_errors(lines, n, errors);
    for (int i = 0; i < n; ++i) {
      if (errors[i] < best.error) best = {lines[i].scale, lines[i].bias, errors[i]};
    }
    if (attempt == 1) return;
    GridSums sums[kMaxLines];
    group.sum(lines, n, sums);
    int n_left = 0;
    for (int i = 0; i < n; ++i) {
      if (sums[i].qq > 0.0F) lines[n_left++] = {sums[i].xq / sums[i].qq, lines[i].bias, 0.0F};
    }
    n = n_left;
  }
}

// Fits from several starts and takes the best ones further.
void fit_from_starts(const Group& group, float min, float max, float top, AffineGrid& best) {
  const float range = max - min;
  const float end_step = top < 8.0F ? 0.06F : 0.5F / top;
  GridLine lines[kEndSteps * kEndSteps];
  int n = 0;
  for (int i = 0; i < kEndSteps; ++i) {
    for (int j = 0; j < kEndSteps; ++j) {
      const float low = end_step * static_cast<float>(i);
      const float high = end_step * static_cast<float>(j);
      const GridLine line = {range * (1.0F - low - high) / top, min + low * range, 0.0F};
      if (is_usable(line.scale)) lines[n++] = line;
    }
  }
  n = refit_lines(group, lines, n);
  float errors[kEndSteps * kEndSteps];
  group.find_errors(lines, n, errors);
  int order[kEndSteps * kEndSteps];
  std::iota(order, order + n, 0);
  std::stable_sort(order, order + n, [&](int a, int b) { return errors[a] < errors[b]; });
  GridLine kept[kKept];
  const int n_kept = std::min(n, kKept);
  for (int i = 0; i < n_kept; ++i) kept[i] = lines[order[i]];
  // A line without a fit stays as it is, as one that has converged does.
  for (int round = 0; round < kRounds; ++round) {
    GridSums sums[kKept];
    for (int i = 0; i < n_kept; ++i) kept[i].center = group.center;
    group.sum(kept, n_kept, sums);
    for (int i = 0; i < n_kept; ++i) (void)solve_line(group, sums[i], kept[i]);
  }
  consider(group, kept, n_kept, true, best);
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
  Group group = {x, weights, n, 0.0F, static_cast<float>(top), stored};
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
    GridLine line = {start->scale, start->bias, 0.0F};
    best = *start;
    group.find_errors(&line, 1, &best.error);
    consider(group, &line, refit_lines(group, &line, 1), true, best);
  }
  fit_from_starts(group, min, max, static_cast<float>(top), best);
  if (std::isinf(best.error)) {
    // A constant group: the bias alone. The scale is MLX's smallest.
    const float scale = round_to_stored(1e-7F, stored);
    const float bias = round_to_stored(group.center, stored);
    best = {is_usable(scale) ? scale : 1.0F, bias, 0.0F};
    const GridLine line = {best.scale, bias, 0.0F};
    group.find_errors(&line, 1, &best.error);
  }
  return best;
}

AffineGrid fit_scale(const float* x, const float* weights, int n, int levels, DType stored) {
  const Group group = {x, weights, n, static_cast<float>(-levels), static_cast<float>(levels - 1), stored};
  float extreme = 0.0F;
  for (int i = 0; i < n; ++i) extreme = std::max(extreme, std::fabs(x[i]));
  AffineGrid best;
  double error = 0.0;  // Of scale 0.
  for (int i = 0; i < n; ++i) {
    error += static_cast<double>(weights[i]) * static_cast<double>(x[i]) * static_cast<double>(x[i]);
  }
  best.error = static_cast<float>(error);
  // The lowest code may stand at either end, inside or beyond the extreme value.
  constexpr int kSteps = 12;
  static_assert(2 * (2 * kSteps + 1) <= kMaxLines);
  GridLine lines[kMaxLines];
  int n_lines = 0;
  for (int step = -kSteps; step <= kSteps; ++step) {
    for (const float sign : {-1.0F, 1.0F}) {
      const float reach = static_cast<float>(levels) * (1.0F + 0.03F * static_cast<float>(step));
      const GridLine line = {sign * extreme / reach, 0.0F, 0.0F};
      if (is_usable(line.scale)) lines[n_lines++] = line;
    }
  }
  consider(group, lines, n_lines, false, best);
  return best;
}

}  // namespace mobilellm
