// min_p: keeps tokens at least min_p times as likely as the most likely one.
#include "engine/sampler/rules.h"

namespace mobilellm {

void apply_min_p(Candidates& candidates, const SamplingParams& params, const TokenHistory&) {
  const auto weights = candidates.weights();
  const double threshold = params.min_p * candidates.max_weight();
  candidates.keep_if([&](size_t i) { return weights[i] >= threshold; });
}

}  // namespace mobilellm
