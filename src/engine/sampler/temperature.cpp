// temperature: divides the logits, before the filters (as transformers and hosted services do, unlike mlx-lm).
#include "engine/sampler/rules.h"

namespace mobilellm {

void apply_temperature(Candidates& candidates, const SamplingParams& params, const TokenHistory&) {
  candidates.scale(params.temperature);
}

}  // namespace mobilellm
