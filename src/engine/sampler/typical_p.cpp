// typical_p: keeps the tokens whose surprise is nearest to the entropy, up to and including the one that reaches the
// mass (Meister et al., "Locally typical sampling", 2023).
#include <cmath>

#include "engine/sampler/prefix_of_mass.h"
#include "engine/sampler/rules.h"

namespace mobilellm {

double entropy(Candidates& candidates) {
  const double total = candidates.total_weight();
  double sum = 0;
  for (const double weight : candidates.weights()) {
    if (weight > 0) sum -= weight / total * std::log(weight / total);
  }
  return sum;
}

void apply_typical_p(Candidates& candidates, const SamplingParams& params, const TokenHistory&) {
  const auto weights = candidates.weights();
  const double total = candidates.total_weight();
  const double mean_surprise = entropy(candidates);
  auto& ranked = candidates.scratch_ranked();
  ranked.clear();
  for (size_t i = 0; i < weights.size(); ++i) {
    if (weights[i] <= 0) continue;
    ranked.push_back({std::abs(-std::log(weights[i] / total) - mean_surprise), weights[i], i});
  }
  candidates.keep_ranked(prefix_of_mass(ranked, params.typical_p * total));
}

}  // namespace mobilellm
