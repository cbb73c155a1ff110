// no_repeat_ngram: forbids every token that would complete an n-gram which the history already holds.
#include <algorithm>

#include "engine/sampler/rules.h"

namespace mobilellm {

void apply_no_repeat_ngram(Candidates& candidates, const SamplingParams& params, const TokenHistory& history) {
  const auto tokens = history.tokens();
  const auto n_context = static_cast<size_t>(params.no_repeat_ngram) - 1;
  if (tokens.size() < n_context + 1) return;
  const auto context = tokens.last(n_context);
  for (size_t i = 0; i + n_context < tokens.size(); ++i) {
    if (std::equal(context.begin(), context.end(), tokens.begin() + static_cast<std::ptrdiff_t>(i))) {
      candidates.ban(tokens[i + n_context]);
    }
  }
}

}  // namespace mobilellm
