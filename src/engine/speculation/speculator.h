/// Guesses tokens ahead where that saves time: chooses the source and the number of guesses for each step.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "engine/sequence.h"
#include "engine/speculation/lookup_drafter.h"
#include "engine/speculation/model_drafter.h"
#include "engine/speculation/options.h"
#include "engine/speculation/step_cost.h"

namespace mobilellm {

/// Watches what steps cost and which guesses were right. Only speed depends on it. Not thread-safe.
class Speculator {
 public:
  /// The draft model, if there is one and the mode allows it, keeps at most max_draft_pages pages.
  Speculator(const SpeculationOptions& options, int max_draft_pages);

  /// Fills Sequence::draft for a step in which each of these computes its last token. A sequence never gets more than
  /// it has room for before max_tokens or the context end.
  void plan(std::span<Sequence* const> sequences, int64_t context_limit);
  /// After that step, however many of the planned guesses it carried.
  void on_step(int n_sequences, int n_drafted, double seconds);
  /// After the guesses of a step were judged.
  void on_judged(int n_sequences, int n_drafted, int n_accepted);
  /// For each token after it was appended, drafted or not.
  void on_token(const Sequence& sequence, int32_t token);
  void remove(const Sequence& sequence);

  const SpeculationStats& stats() const { return stats_; }

 private:
  // What is known about one sequence of a step.
  struct Choice {
    Sequence* sequence;
    int n_most;                  // Guesses there is room for.
    Survival survival;           // Of those at hand.
    bool is_from_model = false;  // Else from lookup.
  };

  bool may_draft(int n_sequences);
  void ask_model(std::vector<Choice>& choices);
  DraftLengths choose(const std::vector<Choice>& choices, double min_gain) const;
  bool is_probe_due(double gain);

  SpeculationOptions options_;
  LookupDrafter lookup_;
  std::optional<ModelDrafter> model_;
  StepCost cost_;
  SpeculationStats stats_;
  // Plain steps' worth of time won by guessing, bounded above; below 0 there is no guessing. Grows a little with each
  // step, so that guessing is tried again.
  double balance_;
  double last_ratio_ = 1;    // Measured cost of the last step, in plain steps.
  int n_since_plain_ = 0;    // Steps with guesses since the last one without.
  int n_model_unasked_ = 0;  // Steps since the model was worth asking.
  int n_probes_ = 0;         // Trials since then.
};

}  // namespace mobilellm
