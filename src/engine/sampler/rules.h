/// The sampling rules, one function per file. Each sees the softmax of what the rules before it left.
#pragma once

#include "engine/request.h"
#include "engine/sampler/candidates.h"
#include "engine/sampler/history.h"

namespace mobilellm {

// Changes by id, before any filter.
void apply_logit_bias(Candidates& candidates, const SamplingParams& params, const TokenHistory& history);
void apply_repetition_penalty(Candidates& candidates, const SamplingParams& params, const TokenHistory& history);
void apply_frequency_presence(Candidates& candidates, const SamplingParams& params, const TokenHistory& history);
void apply_no_repeat_ngram(Candidates& candidates, const SamplingParams& params, const TokenHistory& history);

void apply_temperature(Candidates& candidates, const SamplingParams& params, const TokenHistory& history);

// Filters. Each leaves at least one candidate.
void apply_top_k(Candidates& candidates, const SamplingParams& params, const TokenHistory& history);
void apply_top_p(Candidates& candidates, const SamplingParams& params, const TokenHistory& history);
void apply_min_p(Candidates& candidates, const SamplingParams& params, const TokenHistory& history);
void apply_typical_p(Candidates& candidates, const SamplingParams& params, const TokenHistory& history);
void apply_epsilon(Candidates& candidates, const SamplingParams& params, const TokenHistory& history);
void apply_eta(Candidates& candidates, const SamplingParams& params, const TokenHistory& history);

/// Entropy of the candidates' distribution, in nats.
double entropy(Candidates& candidates);

}  // namespace mobilellm
