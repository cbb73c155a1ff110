// Second moments of layer inputs.
#include "quant/input_moments.h"

#include <algorithm>

#include "base/error.h"
#include "base/thread_pool.h"
#include "quant/linear_algebra.h"

namespace mobilellm {

InputMoments::InputMoments(int64_t cols, bool is_full) : cols_(cols), is_full_(is_full) {
  if (cols <= 0) fail(ErrorCode::kInvalidArgument, "[quant] moments of {} columns: expected at least 1", cols);
  squares_.resize(static_cast<size_t>(cols));
  if (!is_full) return;
  (void)checked_mul(static_cast<size_t>(cols), static_cast<size_t>(cols), "moments");
  sums_.resize(static_cast<size_t>(triangle_size(cols)));
}

void InputMoments::add(const float* x, int64_t n_tokens, int64_t x_stride, ThreadPool& pool) {
  constexpr int64_t kColumns = 256;
  pool.run((cols_ + kColumns - 1) / kColumns, [&](int64_t task, int /*worker*/) {
    const int64_t begin = task * kColumns;
    const int64_t end = std::min(begin + kColumns, cols_);
    for (int64_t token = 0; token < n_tokens; ++token) {
      const float* row = x + token * x_stride;
      for (int64_t k = begin; k < end; ++k) {
        squares_[static_cast<size_t>(k)] += static_cast<double>(row[k]) * static_cast<double>(row[k]);
      }
    }
  });
  if (is_full_) add_gram(x, n_tokens, x_stride, cols_, sums_.data(), pool);
  n_tokens_ += n_tokens;
}

std::vector<float> InputMoments::diagonal() const {
  std::vector<float> means(squares_.size(), 1.0F);
  if (n_tokens_ == 0) return means;
  for (size_t k = 0; k < means.size(); ++k) means[k] = static_cast<float>(squares_[k] / static_cast<double>(n_tokens_));
  return means;
}

}  // namespace mobilellm
