// The decision before a step and the accounts after it.
#include "engine/speculation/speculator.h"

#include <algorithm>
#include <cmath>
#include <new>

#include "base/error.h"
#include "base/log.h"
#include "engine/speculation/draft_length.h"

namespace mobilellm {
namespace {

// Guessing must promise this much more tokens per time: estimates are never quite right.
constexpr double kMinGain = 1.05;
// The account of won time. What was won long ago does not pay for losses now, and losses over a long time stay below
// this share of it.
constexpr double kFirstBalance = 1;
constexpr double kMaxBalance = 6;
constexpr double kAllowedLoss = 0.005;
// Every so many steps one is plain, to learn what that costs now.
constexpr int kLongestRun = 64;
// A draft model that does not pay is tried again after so many steps, for a few steps, and then after ever more.
constexpr int kFirstProbe = 128;
constexpr int kProbeSteps = 4;
constexpr int kMostDoublings = 6;
constexpr double kProbeBalance = 1;

}  // namespace

Speculator::Speculator(const SpeculationOptions& options, int max_draft_pages)
    : options_(options), balance_(kFirstBalance) {
  if (options.mode == SpeculationMode::kAuto && options.draft_model != nullptr) {
    model_.emplace(*options.draft_model, max_draft_pages, options.is_eager);
  }
}

bool Speculator::may_draft(int n_sequences) {
  if (options_.is_eager) return true;
  balance_ = std::min(balance_ + kAllowedLoss, kMaxBalance);
  if (cost_.n_plain(n_sequences) < 2 || balance_ < 0) return false;
  if (n_since_plain_ < kLongestRun) return true;
  n_since_plain_ = 0;
  return false;
}

DraftLengths Speculator::choose(const std::vector<Choice>& choices, double min_gain) const {
  std::vector<Survival> candidates;
  for (const Choice& choice : choices) candidates.push_back(choice.survival);
  DraftLengths chosen = choose_draft_lengths(candidates, cost_, min_gain);
  if (options_.is_eager) {
    for (size_t i = 0; i < choices.size(); ++i) chosen.lengths[i] = static_cast<int>(choices[i].survival.size());
  }
  return chosen;
}

// A few steps in a row after a long time.
bool Speculator::is_probe_due(double gain) {
  if (gain > kMinGain) {
    n_model_unasked_ = 0;
    n_probes_ = 0;
    return true;
  }
  const int wait = kFirstProbe << std::min(n_probes_, kMostDoublings);
  if (++n_model_unasked_ < wait || balance_ < kProbeBalance) return false;
  if (n_model_unasked_ >= wait + kProbeSteps) {
    n_model_unasked_ = 0;
    ++n_probes_;
  }
  return true;
}

// Lets the draft model guess where lookup has nothing better, if that promises more tokens per time.
void Speculator::ask_model(std::vector<Choice>& choices) {
  const auto n_sequences = static_cast<int>(choices.size());
  const double plain_seconds = cost_.plain_seconds(n_sequences);
  const DraftLengths lookup = choose(choices, kMinGain);
  std::vector<size_t> wanting;
  int n_other = 0;
  double n_other_expected = 0;
  for (size_t i = 0; i < choices.size(); ++i) {
    const Choice& choice = choices[i];
    const int n = lookup.lengths[i];
    if (choice.n_most > 0 && (n == 0 || choice.survival[0] < model_->expected_rate(*choice.sequence))) {
      wanting.push_back(i);
    } else {
      n_other += n;
      for (int j = 0; j < n; ++j) n_other_expected += choice.survival[static_cast<size_t>(j)];
    }
  }
  if (wanting.empty()) return;
  const auto n_wanting = static_cast<int>(wanting.size());
  const double pass_cost = model_->pass_cost(n_wanting, plain_seconds);
  double best_gain = 0;
  double row_cost = 0;
  double n_tokens = n_sequences + n_other_expected;
  for (int n = 1; n <= options_.max_draft; ++n) {
    for (const size_t i : wanting) n_tokens += std::pow(model_->expected_rate(*choices[i].sequence), n);
    const int n_rows = n_other + n * n_wanting;
    const double ratio = cost_.ratio(n_sequences, n_rows);
    const double gain = n_tokens / n_sequences / (ratio + n * pass_cost);
    if (gain <= best_gain) continue;
    best_gain = gain;
    row_cost = (ratio - 1) / n_rows + pass_cost / n_wanting;
  }
  if (!options_.is_eager && !is_probe_due(best_gain / std::max(1.0, lookup.gain))) return;

  std::vector<DraftModel::Wish> wishes;
  std::vector<size_t> wishing;
  for (const size_t i : wanting) {
    if (!model_->is_ready(*choices[i].sequence, plain_seconds)) continue;
    wishes.push_back({choices[i].sequence, choices[i].n_most});
    wishing.push_back(i);
  }
  if (wishes.empty()) return;
  const double least_survival = options_.is_eager ? 0 : std::max(1.0, best_gain) * row_cost * n_sequences;
  std::vector<Survival> survival = model_->draft(wishes, least_survival);
  if (plain_seconds > 0) balance_ -= model_->draft_seconds() / plain_seconds;
  for (size_t i = 0; i < wishing.size(); ++i) {
    if (survival[i].empty()) continue;
    choices[wishing[i]].survival = std::move(survival[i]);
    choices[wishing[i]].is_from_model = true;
  }
}

void Speculator::plan(std::span<Sequence* const> sequences, int64_t context_limit) {
  std::vector<Choice> choices;
  bool has_room = false;
  for (Sequence* sequence : sequences) {
    sequence->draft.clear();
    int64_t n_most = context_limit - sequence->n_tokens();
    if (sequence->request.max_tokens >= 0) {
      n_most = std::min(n_most, sequence->request.max_tokens - sequence->n_generated());
    }
    // One token comes without a guess.
    Choice choice{sequence, static_cast<int>(std::min<int64_t>(n_most - 1, options_.max_draft)), {}, false};
    if (!sequence->request.may_speculate) choice.n_most = 0;
    if (choice.n_most > 0) {
      has_room = true;
      choice.survival = lookup_.survival(*sequence, choice.n_most);
    }
    choices.push_back(std::move(choice));
  }
  if (!may_draft(static_cast<int>(sequences.size())) || !has_room) return;
  try {
    if (model_) ask_model(choices);
  } catch (const Error& error) {
    log_warning("[speculation] the draft model is not used any more: {}", error.what());
    model_.reset();
  } catch (const std::bad_alloc&) {
    log_warning("[speculation] the draft model is not used any more: out of memory");
    model_.reset();
  }
  const bool is_paid = std::any_of(choices.begin(), choices.end(), [](const Choice& it) { return it.is_from_model; });
  const DraftLengths chosen = choose(choices, is_paid ? 1 : kMinGain);
  for (size_t i = 0; i < choices.size(); ++i) {
    const int n = chosen.lengths[i];
    if (n == 0) continue;
    if (choices[i].is_from_model) {
      model_->take(*sequences[i], n, sequences[i]->draft);
    } else {
      lookup_.draft(*sequences[i], n, sequences[i]->draft);
    }
  }
}

void Speculator::on_token(const Sequence& sequence, int32_t token) {
  lookup_.on_token(sequence, token);
  if (model_) model_->on_token(sequence, token);
}

void Speculator::remove(const Sequence& sequence) {
  lookup_.remove(sequence);
  if (model_) model_->remove(sequence);
}

void Speculator::on_step(int n_sequences, int n_drafted, double seconds) {
  // As measured, not as estimated: estimates err on the side of trying. A disturbance counts at most double.
  const double plain_seconds = cost_.plain_seconds(n_sequences);
  const double expected = cost_.ratio(n_sequences, n_drafted);
  last_ratio_ = plain_seconds > 0 ? std::clamp(seconds / plain_seconds, 1.0, 2 * expected) : expected;
  cost_.record(n_sequences, n_drafted, seconds);
  n_since_plain_ = n_drafted > 0 ? n_since_plain_ + 1 : 0;
}

void Speculator::on_judged(int n_sequences, int n_drafted, int n_accepted) {
  if (n_drafted == 0) return;
  ++stats_.n_steps;
  stats_.n_drafted += static_cast<uint64_t>(n_drafted);
  stats_.n_accepted += static_cast<uint64_t>(n_accepted);
  balance_ += 1 + static_cast<double>(n_accepted) / n_sequences - last_ratio_;
}

}  // namespace mobilellm
