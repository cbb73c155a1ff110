// logit_bias: added to single tokens; -100 or less forbids them, as hosted services do.
#include "engine/sampler/rules.h"

namespace mobilellm {

void apply_logit_bias(Candidates& candidates, const SamplingParams& params, const TokenHistory&) {
  for (const auto& [id, bias] : params.logit_bias) {
    if (bias <= -100) {
      candidates.ban(id);
    } else {
      candidates.logit_of(id) += bias;
    }
  }
}

}  // namespace mobilellm
