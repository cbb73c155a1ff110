/// Distributions over the vocabulary, as rows of logits: normalization, most likely token, divergence. In double.
#pragma once

#include <cstdint>
#include <span>

namespace mobilellm {

struct RowSummary {
  int32_t top = 0;     ///< The most likely token, the lowest id among equals.
  double log_sum = 0;  ///< log sum exp: log p(i) = logits[i] - log_sum. Not finite when a logit is NaN or +Inf.
};

/// `logits` must not be empty.
RowSummary summarize_row(std::span<const float> logits);

struct RowPair {
  RowSummary a, b;
  double kl = 0;  ///< KL(A || B) in nats, at least 0; not finite when a logit is not.
};

/// Rows of equal size.
RowPair compare_rows(std::span<const float> a, std::span<const float> b);

}  // namespace mobilellm
