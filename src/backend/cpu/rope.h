/// Rotary position embedding: cosines and sines by position, and their application to heads.
#pragma once

#include <cstdint>
#include <vector>

#include "model/spec.h"

namespace mobilellm {

/// Cosines and sines of one table for positions 0 .. n - 1, computed as the reference does: the angle is an f32
/// product.
class RopeCache {
 public:
  explicit RopeCache(const RopeTable& table) : table_(&table) {}
  /// Makes positions below `n_positions` available. Not thread-safe.
  void reserve(int64_t n_positions);
  /// [head_dim / 2] values.
  const float* cosines(int64_t pos) const { return cosines_.data() + pos * half(); }
  const float* sines(int64_t pos) const { return sines_.data() + pos * half(); }

 private:
  int64_t half() const { return static_cast<int64_t>(table_->inv_freq.size()); }
  const RopeTable* table_;
  std::vector<float> cosines_;
  std::vector<float> sines_;
};

/// Rotates `n_heads` heads of `head_dim` floats in place.
void apply_rope(RopeStyle style, const float* cosines, const float* sines, int head_dim, int n_heads, float* heads);

}  // namespace mobilellm
