// The likeliest tokens over all sequences come first; every number of them is judged.
#include "engine/speculation/draft_length.h"

#include <algorithm>

namespace mobilellm {

DraftLengths choose_draft_lengths(std::span<const Survival> candidates, const StepCost& cost, double min_gain) {
  DraftLengths best;
  best.lengths.assign(candidates.size(), 0);
  struct Row {
    double survival;
    size_t sequence;
  };
  std::vector<Row> rows;
  for (size_t i = 0; i < candidates.size(); ++i) {
    for (const double survival : candidates[i]) rows.push_back({survival, i});
  }
  // Stable: survival falls within a sequence, so that its rows stay in order and each prefix of the list is a choice.
  std::stable_sort(rows.begin(), rows.end(), [](const Row& a, const Row& b) { return a.survival > b.survival; });
  const auto n_sequences = static_cast<int>(candidates.size());
  const size_t n_rows = std::min<size_t>(rows.size(), StepCost::kMaxDrafted);
  double n_tokens = n_sequences;
  size_t n_best = 0;
  double best_gain = min_gain;
  for (size_t n = 1; n <= n_rows; ++n) {
    n_tokens += rows[n - 1].survival;
    const double gain = n_tokens / n_sequences / cost.ratio(n_sequences, static_cast<int>(n));
    if (gain <= best_gain) continue;
    best_gain = gain;
    n_best = n;
    best.n_expected = n_tokens - n_sequences;
    best.gain = gain;
  }
  for (size_t n = 0; n < n_best; ++n) ++best.lengths[rows[n].sequence];
  best.n_drafted = static_cast<int>(n_best);
  return best;
}

}  // namespace mobilellm
