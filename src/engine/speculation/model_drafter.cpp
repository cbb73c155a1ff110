// Classes of confidence, and the allowance for catching up.
#include "engine/speculation/model_drafter.h"

#include <algorithm>
#include <array>
#include <chrono>

namespace mobilellm {
namespace {

// Guesses by the probability that the draft model gives them: up to these.
constexpr std::array<double, 11> kClasses = {0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.97, 1.0};
// All guesses together are one class more.
constexpr size_t kAnyClass = kClasses.size();
constexpr double kExpectedOfAny = 0.7;

// Behind by no more than this, it catches up in the first pass of a draft.
constexpr int64_t kNearlyUpToDate = 8;
// Tokens of one catching-up pass: a step is not held up for longer.
constexpr int64_t kLongestPass = 512;
constexpr double kAllowancePerStep = 0.25;
// Before they are measured: tokens that catch up in the time of a plain step, and the cost of a pass.
constexpr double kExpectedTokensPerStep = 16;
constexpr double kExpectedPassCost = 0.25;

size_t class_of(double confidence) {
  const auto found = std::lower_bound(kClasses.begin(), kClasses.end() - 1, confidence);
  return static_cast<size_t>(found - kClasses.begin());
}

// A greedy choice that the draft model gives little is right more often than that.
std::array<double, kAnyClass + 1> expected_rates() {
  std::array<double, kAnyClass + 1> rates{};
  for (size_t i = 0; i < kClasses.size(); ++i) rates[i] = 0.25 + 0.7 * (kClasses[i] - 0.05);
  rates[kAnyClass] = kExpectedOfAny;
  return rates;
}

class Stopwatch {
 public:
  double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count(); }

 private:
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

}  // namespace

ModelDrafter::ModelDrafter(Runner& runner, int max_pages, bool is_eager)
    : model_(runner, max_pages), is_eager_(is_eager), rates_(expected_rates()) {}

ModelDrafter::Member& ModelDrafter::member(const Sequence& sequence) {
  return members_.try_emplace(sequence.id, Member{AcceptanceRates(&rates_), {}, 0, 0, false}).first->second;
}

double ModelDrafter::expected_rate(const Sequence& sequence) const {
  const auto found = members_.find(sequence.id);
  return found == members_.end() ? rates_.rate(kAnyClass) : found->second.rates.rate(kAnyClass);
}

double ModelDrafter::pass_cost(int n_sequences, double plain_seconds) const {
  const double seconds = pass_cost_.plain_seconds(n_sequences);
  return seconds > 0 && plain_seconds > 0 ? seconds / plain_seconds : kExpectedPassCost;
}

bool ModelDrafter::is_ready(const Sequence& sequence, double plain_seconds) {
  Member& it = member(sequence);
  if (it.is_lost) return false;
  int64_t n_behind = model_.n_behind(sequence);
  it.allowance += kAllowancePerStep;
  while (n_behind > kNearlyUpToDate) {
    const int64_t n = std::min(n_behind - 1, kLongestPass);
    const double per_token =
        seconds_per_token_ > 0 && plain_seconds > 0 ? seconds_per_token_ / plain_seconds : 1 / kExpectedTokensPerStep;
    const double cost = static_cast<double>(n) * per_token;
    if (!is_eager_ && it.allowance < cost) return false;
    const Stopwatch watch;
    if (!model_.catch_up(sequence, n)) {
      it.is_lost = true;
      return false;
    }
    const double measured = watch.seconds() / static_cast<double>(n);
    seconds_per_token_ = seconds_per_token_ == 0 ? measured : 0.5 * (seconds_per_token_ + measured);
    it.allowance -= cost;
    n_behind = model_.n_behind(sequence);
    if (!is_eager_) break;
  }
  return n_behind <= kNearlyUpToDate;
}

std::vector<Survival> ModelDrafter::draft(std::span<const DraftModel::Wish> wishes, double least_survival) {
  std::vector<Survival> survival(wishes.size());
  std::vector<Member*> members;
  for (const DraftModel::Wish& wish : wishes) members.push_back(&member(*wish.sequence));
  const Stopwatch watch;
  size_t n_passes = 0;
  std::vector<ModelDraft> drafts = model_.draft(wishes, [&](size_t i, const ModelDraft& draft) {
    const double before = survival[i].empty() ? 1 : survival[i].back();
    survival[i].push_back(before * members[i]->rates.rate(class_of(draft.confidences.back())));
    n_passes = std::max(n_passes, draft.tokens.size());
    // The next one is about as likely as any.
    return survival[i].back() * members[i]->rates.rate(kAnyClass) >= least_survival;
  });
  draft_seconds_ = watch.seconds();
  if (n_passes > 0) {
    pass_cost_.record(static_cast<int>(wishes.size()), 0, draft_seconds_ / static_cast<double>(n_passes));
  }
  for (size_t i = 0; i < wishes.size(); ++i) {
    members[i]->draft = std::move(drafts[i]);
    members[i]->n_right = 0;
  }
  return survival;
}

void ModelDrafter::take(const Sequence& sequence, int n, std::vector<int32_t>& tokens) const {
  const std::vector<int32_t>& drafted = members_.at(sequence.id).draft.tokens;
  tokens.insert(tokens.end(), drafted.begin(), drafted.begin() + n);
}

void ModelDrafter::on_token(const Sequence& sequence, int32_t token) {
  const auto found = members_.find(sequence.id);
  if (found == members_.end()) return;
  Member& it = found->second;
  if (it.n_right >= it.draft.tokens.size()) return;
  const bool is_right = it.draft.tokens[it.n_right] == token;
  for (const size_t index : {class_of(it.draft.confidences[it.n_right]), kAnyClass}) {
    it.rates.record(index, is_right);
    rates_.record(index, is_right);
  }
  ++it.n_right;
  if (!is_right) it.draft = {};
}

void ModelDrafter::remove(const Sequence& sequence) {
  model_.remove(sequence.id);
  members_.erase(sequence.id);
}

}  // namespace mobilellm
