// epsilon: keeps tokens of at least this probability, and always the largest.
#include <algorithm>

#include "engine/sampler/rules.h"

namespace mobilellm {

void apply_epsilon(Candidates& candidates, const SamplingParams& params, const TokenHistory&) {
  const auto weights = candidates.weights();
  const double threshold = std::min(params.epsilon * candidates.total_weight(), candidates.max_weight());
  candidates.keep_if([&](size_t i) { return weights[i] >= threshold; });
}

}  // namespace mobilellm
