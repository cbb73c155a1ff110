/// How many tokens to draft for each sequence of a step, from what they are likely to bring and what they cost.
#pragma once

#include <span>
#include <vector>

#include "engine/speculation/step_cost.h"

namespace mobilellm {

/// The drafted tokens of one sequence: survival[j] is the probability that tokens 0 .. j are all right, so it falls.
using Survival = std::vector<double>;

struct DraftLengths {
  std::vector<int> lengths;  ///< One per sequence.
  int n_drafted = 0;         ///< Their sum.
  double n_expected = 0;     ///< Tokens that are expected to be accepted, over all sequences.
  /// Tokens per time compared with a plain step; 1 when nothing is drafted.
  double gain = 1;
};

/// The lengths with the most expected tokens per time. Nothing is drafted for less than `min_gain` (> 1).
/// `sunk` is time already spent in units of a plain step: a draft model's.
DraftLengths choose_draft_lengths(std::span<const Survival> candidates, const StepCost& cost, double min_gain);

}  // namespace mobilellm
