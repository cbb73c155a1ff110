// repetition_penalty: makes tokens of the history less likely (above 1) or more likely (below 1), once per token.
#include "engine/sampler/rules.h"

namespace mobilellm {

void apply_repetition_penalty(Candidates& candidates, const SamplingParams& params, const TokenHistory& history) {
  for (const auto& [id, count] : history.counts()) {
    double& logit = candidates.logit_of(id);
    logit = logit < 0 ? logit * params.repetition_penalty : logit / params.repetition_penalty;
  }
}

}  // namespace mobilellm
