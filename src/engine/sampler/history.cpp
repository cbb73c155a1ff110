// Counting for the penalties.
#include "engine/sampler/history.h"

namespace mobilellm {

TokenHistory::TokenHistory(const SamplingParams& params)
    : needs_counts_(params.repetition_penalty != 1 || params.frequency_penalty != 0 || params.presence_penalty != 0),
      needs_tokens_(params.no_repeat_ngram > 0),
      takes_prompt_(params.penalize_prompt) {}

void TokenHistory::add_prompt(std::span<const int32_t> tokens) {
  if (!takes_prompt_) return;
  if (needs_counts_) {
    for (const int32_t token : tokens) counts_.try_emplace(token, 0);
  }
  if (needs_tokens_) tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
}

void TokenHistory::add_generated(int32_t token) {
  if (needs_counts_) ++counts_[token];
  if (needs_tokens_) tokens_.push_back(token);
}

}  // namespace mobilellm
