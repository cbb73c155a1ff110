// Sums over the vocabulary.
#include "quality/logit_rows.h"

#include <algorithm>
#include <cmath>

namespace mobilellm {
namespace {

int32_t top_of(std::span<const float> logits) {
  return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

}  // namespace

RowSummary summarize_row(std::span<const float> logits) {
  RowSummary row;
  row.top = top_of(logits);
  const auto top = static_cast<double>(logits[static_cast<size_t>(row.top)]);
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - top);
  row.log_sum = top + std::log(sum);
  return row;
}

RowPair compare_rows(std::span<const float> a, std::span<const float> b) {
  RowPair pair;
  pair.a.top = top_of(a);
  pair.b.top = top_of(b);
  const auto top_a = static_cast<double>(a[static_cast<size_t>(pair.a.top)]);
  const auto top_b = static_cast<double>(b[static_cast<size_t>(pair.b.top)]);
  double sum_a = 0;
  double sum_b = 0;
  double weighted = 0;  // Of (log p_a - log p_b) before both are normalized.
  for (size_t i = 0; i < a.size(); ++i) {
    const double x = static_cast<double>(a[i]) - top_a;
    const double y = static_cast<double>(b[i]) - top_b;
    const double p = std::exp(x);
    sum_a += p;
    sum_b += std::exp(y);
    weighted += p * (x - y);
  }
  pair.a.log_sum = top_a + std::log(sum_a);
  pair.b.log_sum = top_b + std::log(sum_b);
  const double kl = weighted / sum_a + std::log(sum_b) - std::log(sum_a);
  pair.kl = kl < 0 ? 0.0 : kl;  // Rounding may leave a little less than nothing; NaN stays.
  return pair;
}

}  // namespace mobilellm
