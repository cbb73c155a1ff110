// Row arithmetic in sixteen lanes, so that sums are the same for every compiler.
#include "backprop/row_gradients.h"

#include <cmath>

namespace mobilellm {
namespace {

constexpr int64_t kLanes = 16;

float sum_lanes(const float* lanes) {
  float sum = 0.0F;
  for (int64_t i = 0; i < kLanes; ++i) sum += lanes[i];
  return sum;
}

}  // namespace

void rms_norm_backward(const float* x, const float* weight, const float* d_y, int64_t n, float eps, float* d_x,
                       bool accumulates, float* d_weight) {
  float squares[kLanes] = {};
  float products[kLanes] = {};
  const auto add_lanes = [&](int64_t begin, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      const float value = x[begin + i];
      squares[i] += value * value;
      products[i] += (weight == nullptr ? d_y[begin + i] : d_y[begin + i] * weight[begin + i]) * value;
    }
  };
  for (int64_t i = 0; i + kLanes <= n; i += kLanes) add_lanes(i, kLanes);
  add_lanes(n / kLanes * kLanes, n % kLanes);
  const auto count = static_cast<float>(n);
  const float scale = 1.0F / std::sqrt(sum_lanes(squares) / count + eps);
  const float pull = sum_lanes(products) * scale * scale * scale / count;
  if (d_weight != nullptr) {
    for (int64_t i = 0; i < n; ++i) d_weight[i] += d_y[i] * x[i] * scale;
  }
  for (int64_t i = 0; i < n; ++i) {
    const float g = (weight == nullptr ? d_y[i] : d_y[i] * weight[i]) * scale - pull * x[i];
    d_x[i] = accumulates ? d_x[i] + g : g;
  }
}

Rotation::Rotation(const RopeTable& table, int64_t n_positions)
    : half_(static_cast<int64_t>(table.inv_freq.size())),
      cosines_(static_cast<size_t>(n_positions * half_)),
      sines_(cosines_.size()) {
  for (int64_t i = 0; i < n_positions * half_; ++i) {
    const int64_t position = i / half_;
    const float angle = static_cast<float>(position) * table.inv_freq[static_cast<size_t>(i % half_)];
    cosines_[static_cast<size_t>(i)] =
        static_cast<float>(std::cos(static_cast<double>(angle))) * table.attention_factor;
    sines_[static_cast<size_t>(i)] = static_cast<float>(std::sin(static_cast<double>(angle))) * table.attention_factor;
  }
}

void Rotation::apply(RopeStyle style, int64_t pos, int head_dim, int n_heads, bool is_inverse, float* heads) const {
  if (style == RopeStyle::kNone) return;
  const int64_t half = head_dim / 2;
  const int64_t step = style == RopeStyle::kInterleaved ? 2 : 1;
  const int64_t distance = style == RopeStyle::kInterleaved ? 1 : half;
  const float* cosines = cosines_.data() + pos * half_;
  const float* sines = sines_.data() + pos * half_;
  const float sign = is_inverse ? -1.0F : 1.0F;
  for (int head = 0; head < n_heads; ++head) {
    float* x = heads + int64_t{head} * head_dim;
    for (int64_t i = 0; i < half; ++i) {
      const float a = x[i * step];
      const float b = x[i * step + distance];
      const float sine = sign * sines[i];
      x[i * step] = a * cosines[i] - b * sine;
      x[i * step + distance] = b * cosines[i] + a * sine;
    }
  }
}

}  // namespace mobilellm
