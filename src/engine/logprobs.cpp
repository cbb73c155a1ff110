// Selection by insertion: n is small.
#include "engine/logprobs.h"

#include <algorithm>

namespace mobilellm {

std::vector<TokenLogprob> top_logprobs(std::span<const float> logits, double log_sum, int n) {
  std::vector<TokenLogprob> top;
  const auto is_better = [](const TokenLogprob& a, const TokenLogprob& b) {
    return a.logprob != b.logprob ? a.logprob > b.logprob : a.token < b.token;
  };
  if (n <= 0) return top;
  for (size_t i = 0; i < logits.size(); ++i) {
    const TokenLogprob candidate{static_cast<int32_t>(i), static_cast<double>(logits[i])};
    if (static_cast<int>(top.size()) == n && !is_better(candidate, top.back())) continue;
    top.insert(std::upper_bound(top.begin(), top.end(), candidate, is_better), candidate);
    if (static_cast<int>(top.size()) > n) top.pop_back();
  }
  for (TokenLogprob& entry : top) entry.logprob -= log_sum;
  return top;
}

}  // namespace mobilellm
