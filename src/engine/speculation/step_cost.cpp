// Averages of logarithms, so that a disturbed step counts little.
#include "engine/speculation/step_cost.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace mobilellm {
namespace {

// Before a longer step was tried: a single sequence leaves arithmetic idle, so that a drafted token costs this share of
// its own; the more sequences, the nearer it comes to the whole.
constexpr double kExpectedShare = 0.35;
// A single time off by more than a factor of two is a disturbance of the machine rather than news.
constexpr double kMaxNews = 0.7;
// Fewer steps than this may all have been disturbed: until then a higher cost than expected is not believed.
constexpr int kEnoughSeen = 3;
// What was learnt about longer steps fades towards what was expected while only plain ones are made: by half in about
// 350 of them. So those that cost too much are tried again, rarely.
constexpr double kFadePerPlainStep = 0.002;

// Neighbouring numbers of sequences behave alike: 1, 2, 3, 4, 5-6, 7-8, 9-12, 13-16, 17-24, ...
int class_of(int n_sequences) {
  if (n_sequences <= 4) return n_sequences;
  const int octave = std::bit_width(static_cast<unsigned>(n_sequences - 1)) - 1;  // 2^octave < n <= 2^(octave + 1)
  const bool is_upper_half = n_sequences > (3 << (octave - 1));
  return 2 * octave + (is_upper_half ? 2 : 1);
}

}  // namespace

double StepCost::expected_ratio(int n_sequences, int n_drafted) {
  const double share = 1 - (1 - kExpectedShare) / n_sequences;
  return 1 + share / n_sequences * n_drafted;
}

void StepCost::record(int n_sequences, int n_drafted, double seconds) {
  if (seconds <= 0) return;
  Situation& situation = situations_[class_of(n_sequences)];
  const double log_seconds = std::log(seconds);
  const auto average_in = [](double& value, double observed, int n_seen, double slowest) {
    const double news = observed - value;
    value +=
        std::max(slowest, 1.0 / (n_seen + 1)) * (n_seen < kEnoughSeen ? news : std::clamp(news, -kMaxNews, kMaxNews));
  };
  if (n_drafted == 0) {
    average_in(situation.log_plain, log_seconds, situation.n_seen, 0.15);
    ++situation.n_seen;
    for (auto& [n, ratio] : situation.ratios) {
      const double expected = std::log(expected_ratio(n_sequences, n));
      if (ratio.log_ratio <= expected) continue;
      ratio.log_ratio -= kFadePerPlainStep * (ratio.log_ratio - expected);
      ratio.n_seen = std::min(ratio.n_seen, kEnoughSeen);
    }
    return;
  }
  if (situation.n_seen == 0) return;  // Nothing to compare with yet.
  Ratio& ratio = situation.ratios[std::min(n_drafted, kMaxDrafted)];
  const double log_ratio = log_seconds - situation.log_plain;
  // The first steps of a kind may pay for memory that later ones find ready.
  if (ratio.n_seen > 0 && ratio.n_seen < kEnoughSeen) {
    ratio.log_ratio = std::min(ratio.log_ratio, log_ratio);
  } else {
    average_in(ratio.log_ratio, log_ratio, ratio.n_seen, 0.1);
  }
  // When plain steps are rare, these tell that the machine or the depth has changed.
  if (ratio.n_seen >= 8) situation.log_plain += 0.05 * std::clamp(log_ratio - ratio.log_ratio, -kMaxNews, kMaxNews);
  ++ratio.n_seen;
}

double StepCost::ratio(int n_sequences, int n_drafted) const {
  if (n_drafted <= 0) return 1;
  const auto found = situations_.find(class_of(n_sequences));
  int below = 0;
  double below_ratio = 1;
  double slope = expected_ratio(n_sequences, 1) - 1;
  if (found != situations_.end()) {
    for (const auto& [n, ratio] : found->second.ratios) {
      double value = std::max(1.0, std::exp(ratio.log_ratio));
      if (ratio.n_seen < kEnoughSeen) value = std::min(value, expected_ratio(n_sequences, n));
      if (n == n_drafted) return value;
      const double from_below = (value - below_ratio) / (n - below);
      if (n > n_drafted) return below_ratio + from_below * (n_drafted - below);
      // Beyond the longest that was tried: as the last stretch, but not freer than half of the average.
      const double average = (value - 1) / n;
      slope = std::clamp(from_below, 0.5 * average, average);
      below = n;
      below_ratio = value;
    }
  }
  return below_ratio + slope * (n_drafted - below);
}

double StepCost::plain_seconds(int n_sequences) const {
  return n_plain(n_sequences) == 0 ? 0 : std::exp(situations_.at(class_of(n_sequences)).log_plain);
}

int StepCost::n_plain(int n_sequences) const {
  const auto found = situations_.find(class_of(n_sequences));
  return found == situations_.end() ? 0 : found->second.n_seen;
}

}  // namespace mobilellm
