/// Two models on the same text: how far the second departs from the first, the reference.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "quality/estimate.h"
#include "quality/perplexity.h"
#include "quality/text_set.h"

namespace mobilellm {

struct TextComparison {
  std::string path;  ///< "" for the total.
  int64_t n_chunks = 0;
  int64_t n_positions = 0;  ///< All tokens: each has a distribution of what follows.
  int64_t n_predicted = 0;  ///< Those whose next token is in their chunk.
  int64_t n_left_out = 0;   ///< As in TextSet.
  Estimate kl;              ///< KL(A || B) over the whole vocabulary, nats per position.
  double kl_median = 0, kl_p90 = 0, kl_p99 = 0, kl_max = 0;
  Estimate nll_a, nll_b;    ///< Nats per predicted token.
  Estimate nll_change;      ///< Of B over A, token by token, hence with a smaller error than theirs.
  Estimate top1_agreement;  ///< Share of positions with the same most likely token.

  Estimate ppl_ratio() const { return exponential(nll_change); }
};

/// A position where the most likely tokens differ.
struct Flip {
  size_t set = 0;  ///< Which of the sets.
  size_t chunk = 0;
  int64_t position = 0;  ///< In the chunk; both say what follows this token.
  int32_t token_a = -1, token_b = -1;
  double a_of_a = 0, a_of_b = 0;  ///< Probability that A, then B, gives token_a.
  double b_of_a = 0, b_of_b = 0;  ///< The same of token_b.
  double kl = 0;
};

struct ComparisonReport {
  std::vector<TextComparison> texts;  ///< One for each set.
  TextComparison total;               ///< Of all positions.
  int64_t n_flips = 0;
  std::vector<Flip> flips;  ///< Those that A was surest about (a_of_a - b_of_a), in falling order.
};

struct CompareOptions : MeasureOptions {
  size_t max_flips = 10;
};

/// Runs every chunk alone through both. Results do not depend on the number of threads. Throws as measure_perplexity(),
/// and kInvalidArgument for vocabularies of different size.
ComparisonReport compare_models(Runner& a, Runner& b, std::span<const TextSet> sets, const CompareOptions& options);

}  // namespace mobilellm
