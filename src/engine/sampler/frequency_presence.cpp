// frequency_penalty and presence_penalty: lower a generated token's logit by its count and by its having occurred.
#include "engine/sampler/rules.h"

namespace mobilellm {

void apply_frequency_presence(Candidates& candidates, const SamplingParams& params, const TokenHistory& history) {
  for (const auto& [id, count] : history.counts()) {
    if (count == 0) continue;
    candidates.logit_of(id) -= params.frequency_penalty * static_cast<double>(count) + params.presence_penalty;
  }
}

}  // namespace mobilellm
