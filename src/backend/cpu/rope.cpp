// RoPE tables and rotation; plain multiplies and adds, which every compiler rounds alike (-ffp-contract=off).
#include "backend/cpu/rope.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace mobilellm {

void RopeCache::reserve(int64_t n_positions) {
  const auto have = half() == 0 ? n_positions : static_cast<int64_t>(cosines_.size()) / half();
  if (have >= n_positions) return;
  // Growing by doubling keeps the cost of a long generation linear.
  const int64_t target = std::max(n_positions, std::max<int64_t>(256, 2 * have));
  cosines_.resize(static_cast<size_t>(target * half()));
  sines_.resize(static_cast<size_t>(target * half()));
  for (int64_t pos = have; pos < target; ++pos) {
    for (int64_t i = 0; i < half(); ++i) {
      const float angle = static_cast<float>(pos) * table_->inv_freq[static_cast<size_t>(i)];
      const auto index = static_cast<size_t>(pos * half() + i);
      cosines_[index] = static_cast<float>(std::cos(static_cast<double>(angle))) * table_->attention_factor;
      sines_[index] = static_cast<float>(std::sin(static_cast<double>(angle))) * table_->attention_factor;
    }
  }
}

void apply_rope(RopeStyle style, const float* cosines, const float* sines, int head_dim, int n_heads, float* heads) {
  const int half = head_dim / 2;
  for (int head = 0; head < n_heads; ++head) {
    float* x = heads + static_cast<ptrdiff_t>(head) * head_dim;
    if (style == RopeStyle::kHalfSplit) {
      for (int i = 0; i < half; ++i) {
        const float a = x[i];
        const float b = x[i + half];
        x[i] = a * cosines[i] - b * sines[i];
        x[i + half] = b * cosines[i] + a * sines[i];
      }
    } else if (style == RopeStyle::kInterleaved) {
      for (int i = 0; i < half; ++i) {
        const float a = x[2 * i];
        const float b = x[2 * i + 1];
        x[2 * i] = a * cosines[i] - b * sines[i];
        x[2 * i + 1] = b * cosines[i] + a * sines[i];
      }
    }
  }
}

}  // namespace mobilellm
