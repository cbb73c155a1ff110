/// What calibration knows about the inputs of a linear layer: their second moments.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace mobilellm {

class ThreadPool;

/// Sums over tokens of x_k^2, or of x x^T. For a layer y = W x the expected squared error of the outputs is
/// tr(E H E^T), E the error of the weights and H the mean of x x^T; with the diagonal alone it is an estimate.
class InputMoments {
 public:
  /// `is_full`: keep all products, cols * (cols + 1) / 2 floats, instead of the squares.
  InputMoments(int64_t cols, bool is_full);

  /// x [n_tokens, cols], rows x_stride floats apart.
  void add(const float* x, int64_t n_tokens, int64_t x_stride, ThreadPool& pool);

  int64_t cols() const { return cols_; }
  int64_t n_tokens() const { return n_tokens_; }
  bool is_full() const { return is_full_; }
  /// Means of x_k^2, [cols]. Ones before any token.
  std::vector<float> diagonal() const;
  /// Sums of x x^T, a lower triangle as in linear_algebra.h; empty unless is_full().
  std::span<const float> sums() const { return is_full_ ? std::span<const float>(sums_) : std::span<const float>(); }

 private:
  int64_t cols_;
  bool is_full_;
  int64_t n_tokens_ = 0;
  std::vector<float> sums_;      // A triangle, or empty.
  std::vector<double> squares_;  // [cols], kept for both kinds
};

}  // namespace mobilellm
