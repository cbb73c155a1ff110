// top_p: the nucleus, the most likely tokens whose mass before each is below p.
#include "engine/sampler/prefix_of_mass.h"
#include "engine/sampler/rules.h"

namespace mobilellm {

void apply_top_p(Candidates& candidates, const SamplingParams& params, const TokenHistory&) {
  const auto weights = candidates.weights();
  const double total = candidates.total_weight();
  // All tokens below (1 - p) / n together weigh less than 1 - p, so the nucleus is complete before the first of them.
  // Half of it, to be safe from rounding.
  const double floor = 0.5 * (1 - params.top_p) / static_cast<double>(weights.size()) * total;
  auto& ranked = candidates.scratch_ranked();
  ranked.clear();
  for (size_t i = 0; i < weights.size(); ++i) {
    if (weights[i] >= floor) ranked.push_back({-weights[i], weights[i], i});
  }
  candidates.keep_ranked(prefix_of_mass(ranked, params.top_p * total));
}

}  // namespace mobilellm
