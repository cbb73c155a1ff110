// eta: like epsilon, with a threshold that falls as the entropy grows (Hewitt et al., "Truncation sampling as language
// model desmoothing", 2022).
#include <algorithm>
#include <cmath>

#include "engine/sampler/rules.h"

namespace mobilellm {

void apply_eta(Candidates& candidates, const SamplingParams& params, const TokenHistory&) {
  const auto weights = candidates.weights();
  const double eta = std::min(params.eta, std::sqrt(params.eta) * std::exp(-entropy(candidates)));
  const double threshold = std::min(eta * candidates.total_weight(), candidates.max_weight());
  candidates.keep_if([&](size_t i) { return weights[i] >= threshold; });
}

}  // namespace mobilellm
