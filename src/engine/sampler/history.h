/// What a sequence has said so far, counted for the penalties.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "engine/request.h"

namespace mobilellm {

/// Follows one sequence. Keeps counts only when the parameters need them.
class TokenHistory {
 public:
  explicit TokenHistory(const SamplingParams& params);

  /// A token of the prompt; counts for repetition only, and only with penalize_prompt.
  void add_prompt(std::span<const int32_t> tokens);
  void add_generated(int32_t token);

  /// Distinct tokens that repetition_penalty looks at, with how often each was generated.
  const std::unordered_map<int32_t, int64_t>& counts() const { return counts_; }
  /// In order, for no_repeat_ngram; empty when that is off.
  std::span<const int32_t> tokens() const { return tokens_; }

 private:
  bool needs_counts_;
  bool needs_tokens_;
  bool takes_prompt_;
  std::unordered_map<int32_t, int64_t> counts_;
  std::vector<int32_t> tokens_;
};

}  // namespace mobilellm
