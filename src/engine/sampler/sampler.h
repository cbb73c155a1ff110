/// Chooses the next token from logits.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "engine/request.h"
#include "engine/sampler/candidates.h"
#include "engine/sampler/history.h"

namespace mobilellm {

/// Index of the largest logit, the first of equal ones. Throws kInternal for NaN or +infinity, and when all are
/// -infinity.
int32_t argmax(std::span<const float> logits);

/// log of the sum of exp(logit), in double precision.
double log_sum_exp(std::span<const float> logits);

/// Holds working storage of vocabulary size, so one object serves all sequences. Not thread-safe.
class Sampler {
 public:
  /// The next token; `uniform` in [0, 1) decides between the candidates.
  int32_t sample(std::span<const float> logits, const SamplingParams& params, const TokenHistory& history,
                 double uniform);

  /// Ids with a probability above zero, ascending, with their probabilities. Temperature 0 gives the greedy token.
  std::vector<std::pair<int32_t, double>> distribution(std::span<const float> logits, const SamplingParams& params,
                                                       const TokenHistory& history);

 private:
  void apply_rules(std::span<const float> logits, const SamplingParams& params, const TokenHistory& history);

  Candidates candidates_;
};

}  // namespace mobilellm
