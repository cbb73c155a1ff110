/// Log-probabilities of the model itself, from its logits.
#pragma once

#include <span>
#include <vector>

#include "engine/engine.h"

namespace mobilellm {

/// The n most likely tokens, given log_sum_exp() of the logits, in falling order; of equal ones the smaller id first.
std::vector<TokenLogprob> top_logprobs(std::span<const float> logits, double log_sum, int n);

}  // namespace mobilellm
