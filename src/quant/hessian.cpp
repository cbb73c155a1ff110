// Damped Hessians and their factors.
#include "quant/hessian.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "base/thread_pool.h"
#include "quant/input_moments.h"
#include "quant/linear_algebra.h"

namespace mobilellm {
namespace {

// Each attempt after a failure raises the damping tenfold.
constexpr int kAttempts = 4;

}  // namespace

Hessian::Hessian(const InputMoments& moments, ThreadPool& pool, float damping_share) : cols_(moments.cols()) {
  if (!moments.is_full() || moments.n_tokens() == 0) {
    fail(ErrorCode::kInvalidArgument, "[quant] moments: got {} over {} tokens, expected full moments of at least one",
         moments.is_full() ? "full ones" : "squares", moments.n_tokens());
  }
  const std::vector<float> diagonal = moments.diagonal();
  const float mean = std::accumulate(diagonal.begin(), diagonal.end(), 0.0F) / static_cast<float>(cols_);
  if (!std::isfinite(mean)) {
    fail(ErrorCode::kCorruptData,
         "[quant] calibration: got layer inputs that are not finite; check the model with `verify`");
  }
  const auto n = static_cast<size_t>(cols_);
  const std::span<const float> sums = moments.sums();
  const float inverse_tokens = 1.0F / static_cast<float>(moments.n_tokens());
  matrix_.resize(n * n);
  for (size_t i = 0; i < n; ++i) {
    const float* row = sums.data() + triangle_row(static_cast<int64_t>(i));
    for (size_t j = 0; j <= i; ++j) matrix_[i * n + j] = matrix_[j * n + i] = row[j] * inverse_tokens;
  }
  order_.resize(n);
  std::iota(order_.begin(), order_.end(), 0);
  std::stable_sort(order_.begin(), order_.end(), [&](int32_t a, int32_t b) {
    return diagonal[static_cast<size_t>(a)] < diagonal[static_cast<size_t>(b)];
  });
  factor_.resize(n * n);
  // An input that is always zero has no say: any positive number keeps its row out of the way.
  float damping = mean > 0.0F ? damping_share * mean : 1.0F;
  for (int attempt = 0;; ++attempt) {
    for (size_t k = 0; k < n; ++k) matrix_[k * n + k] += damping;
    for (size_t i = 0; i < n; ++i) {
      const float* row = matrix_.data() + static_cast<size_t>(order_[i]) * n;
      for (size_t j = 0; j <= i; ++j) factor_[i * n + j] = row[order_[j]];
      std::fill(factor_.begin() + static_cast<std::ptrdiff_t>(i * n + i + 1),
                factor_.begin() + static_cast<std::ptrdiff_t>((i + 1) * n), 0.0F);
    }
    if (factor_cholesky(factor_.data(), cols_, pool)) break;
    if (attempt + 1 == kAttempts) {
      fail(ErrorCode::kCorruptData,
           "[quant] calibration: moments of {} inputs are not positive definite; use more text", cols_);
    }
    damping *= 10.0F;
  }
  transpose_square(factor_.data(), cols_, pool);
  // The factorization leaves nothing of use below the diagonal of its transpose.
  for (size_t i = 0; i < n; ++i) std::fill_n(factor_.begin() + static_cast<std::ptrdiff_t>(i * n), i, 0.0F);
}

std::vector<float> Hessian::remaining_costs() const {
  const auto n = static_cast<size_t>(cols_);
  std::vector<float> costs(n);
  for (size_t i = 0; i < n; ++i) costs[static_cast<size_t>(order_[i])] = factor_[i * n + i] * factor_[i * n + i];
  return costs;
}

}  // namespace mobilellm
