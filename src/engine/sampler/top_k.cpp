// top_k: drops every token below the k-th largest logit; ties with it stay.
#include <algorithm>
#include <functional>

#include "engine/sampler/rules.h"

namespace mobilellm {
namespace {

// Below this, a heap of the k largest seen so far beats selection: nearly all logits fail one comparison.
constexpr size_t kHeapLimit = 1024;

double kth_largest(std::span<const double> values, size_t k, std::vector<double>& scratch) {
  const auto greater = std::greater<>();
  if (k > kHeapLimit) {
    scratch.assign(values.begin(), values.end());
    const auto kth = scratch.begin() + static_cast<std::ptrdiff_t>(k - 1);
    std::nth_element(scratch.begin(), kth, scratch.end(), greater);
    return *kth;
  }
  scratch.assign(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(k));
  std::make_heap(scratch.begin(), scratch.end(), greater);
  for (size_t i = k; i < values.size(); ++i) {
    if (values[i] <= scratch.front()) continue;
    std::pop_heap(scratch.begin(), scratch.end(), greater);
    scratch.back() = values[i];
    std::push_heap(scratch.begin(), scratch.end(), greater);
  }
  return scratch.front();
}

}  // namespace

void apply_top_k(Candidates& candidates, const SamplingParams& params, const TokenHistory&) {
  const auto k = static_cast<size_t>(params.top_k);
  if (k >= candidates.size()) return;
  const double threshold = kth_largest(candidates.logits(), k, candidates.scratch_values());
  candidates.keep_if([&](size_t i) { return candidates.logit(i) >= threshold; });
}

}  // namespace mobilellm
