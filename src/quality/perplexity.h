/// How well a model predicts text: mean negative log-likelihood and perplexity.
#pragma once

#include <atomic>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "quality/estimate.h"
#include "quality/text_set.h"

namespace mobilellm {

/// What a measurement needs besides models and text.
struct MeasureOptions {
  int n_threads = 0;  ///< Of the sums over the vocabulary; 0 = every core this process may use.
  /// Called with the share of tokens that is done.
  std::function<void(double)> on_progress;
  const std::atomic<bool>* cancel = nullptr;  ///< Looked at before each batch; makes the measurement throw kCancelled.
};

struct TextPerplexity {
  std::string path;  ///< "" for the total.
  int64_t n_chunks = 0;
  int64_t n_predicted = 0;  ///< Tokens that have one before them in their chunk.
  int64_t n_left_out = 0;   ///< As in TextSet.
  Estimate nll;             ///< Nats per predicted token.

  Estimate perplexity() const;
};

struct PerplexityReport {
  std::vector<TextPerplexity> texts;  ///< One for each set.
  TextPerplexity total;               ///< Of all tokens.
};

/// exp of a mean, with the error that this brings.
Estimate exponential(const Estimate& logarithm);

/// Runs every chunk alone. Results do not depend on the number of threads. Throws kContextExceeded for chunks that the
/// model has no room for, kInvalidArgument for ids outside its vocabulary, kCorruptData when a logit is not a number.
PerplexityReport measure_perplexity(Runner& runner, std::span<const TextSet> sets, const MeasureOptions& options);

}  // namespace mobilellm
