// Searches for scales of quantized blocks.
#include "codec/block_search.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

namespace mobilellm {
namespace {

// sum w x q and sum w q^2: their quotient is the least-squares scale, and sum_xq^2 / sum_qq what it saves of the error.
struct Moments {
  float sum_xq = 0.0F;
  float sum_qq = 0.0F;

  void add(float weight, float x, int q) {
    sum_xq += weight * x * static_cast<float>(q);
    sum_qq += weight * static_cast<float>(q) * static_cast<float>(q);
  }
  void remove(float weight, float x, int q) {
    sum_xq -= weight * x * static_cast<float>(q);
    sum_qq -= weight * static_cast<float>(q) * static_cast<float>(q);
  }
  float scale() const { return sum_qq > 0.0F ? sum_xq / sum_qq : 0.0F; }
  // Products instead of quotients: sums of zero need no special case.
  bool beats(const Moments& other) const {
    return sum_qq > 0.0F && sum_xq * sum_xq * other.sum_qq > other.sum_xq * other.sum_xq * sum_qq;
  }
};

// Moves single codes within [low, high] to the nearest value under the scale that the others ask for, up to five times
// over.
template <typename Code, typename Weight>
void move_single_codes(const float* x, Weight weight, int n, int low, int high, Code* codes, Moments& moments) {
  constexpr int kRounds = 5;
  for (int round = 0; round < kRounds; ++round) {
    bool has_changed = false;
    for (int i = 0; i < n; ++i) {
      Moments others = moments;
      others.remove(weight(i), x[i], codes[i]);
      if (!(others.sum_xq > 0.0F && others.sum_qq > 0.0F)) continue;
      const int code = nearest_within(x[i] * others.sum_qq / others.sum_xq, low, high);
      if (code == codes[i]) continue;
      others.add(weight(i), x[i], code);
      if (!others.beats(moments)) continue;
      codes[i] = static_cast<Code>(code);
      moments = others;
      has_changed = true;
    }
    if (!has_changed) return;
  }
}

}  // namespace

float find_extreme(const float* x, int n) {
  float extreme = 0.0F;
  for (int i = 0; i < n; ++i) {
    if (std::fabs(x[i]) > std::fabs(extreme)) extreme = x[i];
  }
  return extreme;
}

float fit_symmetric(const float* x, const float* weights, int n, int levels, int8_t* codes) {
  const float extreme = find_extreme(x, n);
  if (std::fabs(extreme) < kZeroMagnitude) {
    std::fill_n(codes, n, static_cast<int8_t>(-levels));
    return 0.0F;
  }
  const auto moments_of = [&](float inverse) {
    Moments moments;
    for (int i = 0; i < n; ++i) moments.add(weights[i], x[i], nearest_within(inverse * x[i], -levels, levels - 1));
    return moments;
  };
  constexpr int kSteps = 9;
  float best_inverse = static_cast<float>(-levels) / extreme;
  const Moments first = moments_of(best_inverse);
  float scale = first.scale();
  float saved = scale * first.sum_xq;
  for (int step = -kSteps; step <= kSteps; ++step) {
    if (step == 0) continue;
    const float inverse = -(static_cast<float>(levels) + 0.1F * static_cast<float>(step)) / extreme;
    const Moments moments = moments_of(inverse);
    if (!(moments.sum_qq > 0.0F && moments.sum_xq * moments.sum_xq > saved * moments.sum_qq)) continue;
    best_inverse = inverse;
    scale = moments.scale();
    saved = scale * moments.sum_xq;
  }
  for (int i = 0; i < n; ++i) {
    codes[i] = static_cast<int8_t>(nearest_within(best_inverse * x[i], -levels, levels - 1));
  }
  return scale;
}

float descend_symmetric(const float* x, int n, int levels, int8_t* codes) {
  const float extreme = find_extreme(x, n);
  if (std::fabs(extreme) < kZeroMagnitude) {
    std::fill_n(codes, n, static_cast<int8_t>(-levels));
    return 0.0F;
  }
  const float inverse = static_cast<float>(-levels) / extreme;
  const auto weight = [&](int i) { return x[i] * x[i]; };
  Moments moments;
  for (int i = 0; i < n; ++i) {
    codes[i] = static_cast<int8_t>(nearest_within(inverse * x[i], -levels, levels - 1));
    moments.add(weight(i), x[i], codes[i]);
  }
  move_single_codes(x, weight, n, -levels, levels - 1, codes, moments);
  return moments.scale();
}

float fit_with_minimum(const float* x, const float* weights, int n, int top, const ScaleSteps& steps, uint8_t* codes,
                       float* minimum) {
  float min = x[0];
  float max = x[0];
  float sum_w = weights[0];
  float sum_x = sum_w * x[0];
  for (int i = 1; i < n; ++i) {
    min = x[i] < min ? x[i] : min;
    max = x[i] > max ? x[i] : max;
    sum_w += weights[i];
    sum_x += weights[i] * x[i];
  }
  min = min > 0.0F ? 0.0F : min;
  if (max <= min) {
    std::fill_n(codes, n, uint8_t{0});
    *minimum = -min;
    return 0.0F;
  }
  const auto error_of = [&](float scale, float offset, const uint8_t* trial) {
    float error = 0.0F;
    for (int i = 0; i < n; ++i) {
      const float difference = scale * static_cast<float>(trial[i]) + offset - x[i];
      error += weights[i] * (steps.is_absolute ? std::fabs(difference) : difference * difference);
    }
    return error;
  };
  float inverse = static_cast<float>(top) / (max - min);
  float scale = 1.0F / inverse;
  for (int i = 0; i < n; ++i) codes[i] = static_cast<uint8_t>(nearest_within(inverse * (x[i] - min), 0, top));
  float best = error_of(scale, min, codes);
  uint8_t trial[kMaxBlockValues];
  for (int step = 0; step <= steps.n_steps; ++step) {
    // `min` is that of the best fit so far: files of the reference quantizer depend on it.
    inverse = (steps.first + steps.step * static_cast<float>(step) + static_cast<float>(top)) / (max - min);
    float sum_q = 0.0F;
    float sum_qq = 0.0F;
    float sum_xq = 0.0F;
    for (int i = 0; i < n; ++i) {
      const int code = nearest_within(inverse * (x[i] - min), 0, top);
      trial[i] = static_cast<uint8_t>(code);
      const auto q = static_cast<float>(code);
      sum_q += weights[i] * q;
      sum_qq += weights[i] * q * q;
      sum_xq += weights[i] * q * x[i];
    }
    const float determinant = sum_w * sum_qq - sum_q * sum_q;
    if (!(determinant > 0.0F)) continue;
    float trial_scale = (sum_w * sum_xq - sum_x * sum_q) / determinant;
    float trial_min = (sum_qq * sum_x - sum_q * sum_xq) / determinant;
    if (trial_min > 0.0F) {
      trial_min = 0.0F;
      trial_scale = sum_xq / sum_qq;
    }
    const float error = error_of(trial_scale, trial_min, trial);
    if (!(error < best)) continue;
    std::copy_n(trial, n, codes);
    best = error;
    scale = trial_scale;
    min = trial_min;
  }
  *minimum = -min;
  return scale;
}

float fit_nonnegative(const float* x, const float* weights, int n, int top, uint8_t* codes) {
  const float max = std::max(0.0F, *std::max_element(x, x + n));
  if (max < kZeroMagnitude) {
    std::fill_n(codes, n, uint8_t{0});
    return 0.0F;
  }
  constexpr int kSteps = 4;
  float best_inverse = 0.0F;
  float best = std::numeric_limits<float>::infinity();
  for (int step = -kSteps; step <= kSteps; ++step) {
    const float inverse = (0.1F * static_cast<float>(step) + static_cast<float>(top)) / max;
    float error = 0.0F;
    for (int i = 0; i < n; ++i) {
      const float difference = x[i] - static_cast<float>(nearest_within(inverse * x[i], 0, top)) / inverse;
      error += weights[i] * difference * difference;
    }
    if (error < best) {
      best = error;
      best_inverse = inverse;
    }
  }
  Moments moments;
  for (int i = 0; i < n; ++i) {
    codes[i] = static_cast<uint8_t>(nearest_within(best_inverse * x[i], 0, top));
    moments.add(weights[i], x[i], codes[i]);
  }
  move_single_codes(x, [&](int i) { return weights[i]; }, n, 0, top, codes, moments);
  return moments.scale();
}

namespace {

// Level of x by the integer part of 2 x, which decides exactly: the borders between levels are whole or half numbers.
constexpr int kHalfSteps = 256;
constexpr std::array<uint8_t, 2 * kHalfSteps> make_level_table() {
  std::array<uint8_t, 2 * kHalfSteps> table{};
  for (int i = 0; i < 2 * kHalfSteps; ++i) {
    int index = 0;
    while (index < 15 && i - kHalfSteps >= kNonlinearLevels[index] + kNonlinearLevels[index + 1]) ++index;
    table[static_cast<size_t>(i)] = static_cast<uint8_t>(index);
  }
  return table;
}
constexpr std::array<uint8_t, 2 * kHalfSteps> kLevelTable = make_level_table();

}  // namespace

int nearest_level(float x) {
  constexpr auto kLimit = static_cast<float>(kHalfSteps - 1);
  const float twice = x + x;
  const float raised = twice > -kLimit ? twice : -kLimit;
  const float inside = raised < kLimit ? raised : kLimit;
  const int truncated = static_cast<int>(inside);
  const int floor = truncated - static_cast<int>(static_cast<float>(truncated) > inside);
  const auto index = static_cast<size_t>(floor) + kHalfSteps;  // Wraps to the right place for floor < 0.
  return kLevelTable[index];
}

float fit_levels(const float* x, const float* weights, int n) {
  const float extreme = find_extreme(x, n);
  if (std::fabs(extreme) < kZeroMagnitude) return 0.0F;
  const auto moments_of = [&](float inverse) {
    Moments moments;
    for (int i = 0; i < n; ++i) {
      const auto q = static_cast<float>(kNonlinearLevels[nearest_level(inverse * x[i])]);
      moments.sum_xq += weights[i] * q * x[i];
      moments.sum_qq += weights[i] * q * q;
    }
    return moments;
  };
  constexpr int kSteps = 7;
  constexpr auto kLowest = static_cast<float>(kNonlinearLevels[0]);
  const Moments first = moments_of(1.0F / (-extreme / kLowest));
  float scale = first.scale();
  float saved = scale * first.sum_xq;
  for (int step = -kSteps; step <= kSteps; ++step) {
    const Moments moments = moments_of((static_cast<float>(step) + kLowest) / extreme);
    if (!(moments.sum_qq > 0.0F && moments.sum_xq * moments.sum_xq > saved * moments.sum_qq)) continue;
    scale = moments.scale();
    saved = scale * moments.sum_xq;
  }
  return scale;
}

}  // namespace mobilellm
