// The decision before a step and the accounts after it.
#include "engine/speculation/speculator.h"

#include <algorithm>

#include "engine/speculation/draft_length.h"

namespace mobilellm {
namespace {

// Guessing must promise this much more tokens per time: estimates are never quite right.
constexpr double kMinGain = 1.05;
// The account of won time. What was won long ago does not pay for losses now, and losses over a long time stay below
// this share of it.
constexpr double kFirstBalance = 3;
constexpr double kMaxBalance = 6;
constexpr double kAllowedLoss = 0.005;
// Every so many steps one is plain, to learn what that costs now.
constexpr int kLongestRun = 64;

}  // namespace

Speculator::Speculator(const SpeculationOptions& options) : options_(options), balance_(kFirstBalance) {}

bool Speculator::may_draft(int n_sequences) {
  if (options_.is_eager) return true;
  balance_ = std::min(balance_ + kAllowedLoss, kMaxBalance);
  if (cost_.n_plain(n_sequences) < 2 || balance_ < 0) return false;
  if (n_since_plain_ < kLongestRun) return true;
  n_since_plain_ = 0;
  return false;
}

void Speculator::plan(std::span<Sequence* const> sequences, int64_t context_limit) {
  for (Sequence* sequence : sequences) sequence->draft.clear();
  const auto n_sequences = static_cast<int>(sequences.size());
  std::vector<Survival> candidates;
  for (const Sequence* sequence : sequences) {
    int64_t n_most = context_limit - sequence->n_tokens();
    if (sequence->request.max_tokens >= 0) {
      n_most = std::min(n_most, sequence->request.max_tokens - sequence->n_generated());
    }
    // One token comes without a guess.
    const auto n = static_cast<int>(std::min<int64_t>(n_most - 1, options_.max_draft));
    candidates.push_back(sequence->request.may_speculate && n > 0 ? lookup_.survival(*sequence, n) : Survival{});
  }
  if (!may_draft(n_sequences)) return;
  std::vector<int> lengths = choose_draft_lengths(candidates, cost_, kMinGain).lengths;
  for (size_t i = 0; i < sequences.size(); ++i) {
    if (options_.is_eager) lengths[i] = static_cast<int>(candidates[i].size());
    if (lengths[i] > 0) lookup_.draft(*sequences[i], lengths[i], sequences[i]->draft);
  }
}

void Speculator::on_step(int n_sequences, int n_drafted, double seconds) {
  cost_.record(n_sequences, n_drafted, seconds);
  n_since_plain_ = n_drafted > 0 ? n_since_plain_ + 1 : 0;
}

void Speculator::on_judged(int n_sequences, int n_drafted, int n_accepted) {
  if (n_drafted == 0) return;
  ++stats_.n_steps;
  stats_.n_drafted += static_cast<uint64_t>(n_drafted);
  stats_.n_accepted += static_cast<uint64_t>(n_accepted);
  balance_ += 1 + static_cast<double>(n_accepted) / n_sequences - cost_.ratio(n_sequences, n_drafted);
}

}  // namespace mobilellm
