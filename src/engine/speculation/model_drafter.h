/// When the draft model can be asked, what that costs, and how far its guesses can be trusted.
#pragma once

#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "engine/sequence.h"
#include "engine/speculation/acceptance.h"
#include "engine/speculation/draft_length.h"
#include "engine/speculation/draft_model.h"
#include "engine/speculation/step_cost.h"

namespace mobilellm {

/// Learns from each of its guesses. Costs are in units of a plain step of the large model, whose seconds are given.
class ModelDrafter {
 public:
  /// `is_eager`: the model computes whatever it is behind by at once.
  ModelDrafter(Runner& runner, int max_pages, bool is_eager);

  /// Probability that a guess for this sequence is right, given that those before it were.
  double expected_rate(const Sequence& sequence) const;
  /// Of one more guess for each of n sequences.
  double pass_cost(int n_sequences, double plain_seconds) const;

  /// Whether the model can draft for this sequence now. When it is behind, this computes a part of what is missing once
  /// enough steps have gone by to justify that: a quarter of a plain step's time for each call.
  bool is_ready(const Sequence& sequence, double plain_seconds);

  /// Drafts for some sequences at once, for each until its next guess is less likely than `least_survival`. Returns how
  /// likely the guesses are, and keeps them for take(). Throws what the model throws.
  std::vector<Survival> draft(std::span<const DraftModel::Wish> wishes, double least_survival);
  /// The first n guesses of the last draft for this sequence.
  void take(const Sequence& sequence, int n, std::vector<int32_t>& tokens) const;
  /// Seconds that the last draft took.
  double draft_seconds() const { return draft_seconds_; }

  void on_token(const Sequence& sequence, int32_t token);
  void remove(const Sequence& sequence);

 private:
  struct Member {
    AcceptanceRates rates;
    ModelDraft draft;      // The last one, until one of its guesses is wrong.
    size_t n_right = 0;    // So many of its guesses have come.
    double allowance = 0;  // Time that may be spent on catching up, in plain steps.
    bool is_lost = false;  // There is no memory for it.
  };
  Member& member(const Sequence& sequence);

  DraftModel model_;
  bool is_eager_;
  AcceptanceRates rates_;
  StepCost pass_cost_;
  double seconds_per_token_ = 0;  // Of catching up; 0 = not known yet.
  double draft_seconds_ = 0;
  std::unordered_map<RequestId, Member> members_;
};

}  // namespace mobilellm
