/// What a caller asks of the engine: token ids in, and the rules by which the next ones are chosen.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

namespace mobilellm {

/// How the next token is chosen. Defaults change nothing: every rule is off and decoding is greedy.
/// The rules apply in the order of the table in sampler/sampler.cpp; temperature comes before the filters.
struct SamplingParams {
  double temperature = 0;         ///< 0 = greedy: the largest logit after the penalties; filters then change nothing.
  int64_t top_k = 0;              ///< Keep the k largest (ties with the k-th stay); 0 or -1 = off.
  double top_p = 1;               ///< Keep a token while the mass before it is below this, in (0, 1]; 1 = off.
  double min_p = 0;               ///< Keep p >= min_p * max p, in [0, 1]; 0 = off.
  double typical_p = 1;           ///< Locally typical sampling, in (0, 1]; 1 = off.
  double epsilon = 0;             ///< Keep p >= epsilon, in [0, 1); 0 = off.
  double eta = 0;                 ///< Keep p >= min(eta, sqrt(eta) * exp(-entropy)), in [0, 1); 0 = off.
  int no_repeat_ngram = 0;        ///< Forbid tokens that would complete an n-gram of the history; 0 = off.
  double repetition_penalty = 1;  ///< > 0; divides positive and multiplies negative logits of seen tokens; 1 = off.
  double frequency_penalty = 0;   ///< logit -= penalty * count in the generated tokens, in [-2, 2].
  double presence_penalty = 0;    ///< logit -= penalty if the token was generated, in [-2, 2].
  /// What repetition_penalty and no_repeat_ngram call history: generated tokens only (false, as the original MLX
  /// command line), or the prompt too (true, as transformers). frequency and presence always count generated tokens
  /// only.
  bool penalize_prompt = false;
  std::vector<std::pair<int32_t, double>> logit_bias;  ///< Added first; -100 or less bans the token.
  /// Random numbers are a function of (seed, Request::stream, position), so they do not depend on batching.
  uint64_t seed = 0;

  bool is_greedy() const { return temperature == 0; }
  bool operator==(const SamplingParams& other) const = default;
};

/// Throws kInvalidArgument naming the first field outside its range.
void validate(const SamplingParams& params, int vocab_size);

inline constexpr int kMaxLogprobs = 20;

struct Request {
  std::vector<int32_t> prompt;  ///< At least one id.
  SamplingParams sampling;
  uint64_t stream = 0;           ///< Number of this choice among n samples of one prompt.
  std::vector<int32_t> eos_ids;  ///< Any of these ends the sequence.
  bool ignore_eos = false;       ///< Go on after an eos id (until max_tokens or the context end).
  int64_t max_tokens = -1;       ///< Generated tokens, forced ones included; -1 = up to the context end.
  /// Log-probabilities of the chosen token and the n most likely ones (0 .. 20); absent = none are computed.
  /// They are those of the model itself, before bias, penalties and temperature.
  std::optional<int> n_logprobs;
  bool may_speculate = true;  ///< Guess tokens ahead when the engine does so; never changes the result.
};

}  // namespace mobilellm
