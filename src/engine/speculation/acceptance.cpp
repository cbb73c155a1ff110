// Counts that fade, pulled towards what was expected.
#include "engine/speculation/acceptance.h"

namespace mobilellm {
namespace {

// So many tokens' worth of evidence is what was expected beforehand.
constexpr double kWeightOfExpected = 6;
// What is left of a count after each token: a sequence remembers about 40 tokens, all together about 400.
constexpr double kFadeOfSequence = 1 - 1.0 / 40;
constexpr double kFadeOfAll = 1 - 1.0 / 400;

}  // namespace

AcceptanceRates::AcceptanceRates(std::span<const double> expected)
    : expected_(expected.begin(), expected.end()), counts_(expected.size()) {}

AcceptanceRates::AcceptanceRates(const AcceptanceRates* shared) : shared_(shared), counts_(shared->counts_.size()) {}

void AcceptanceRates::record(size_t index, bool is_right) {
  Counts& counts = counts_[index];
  const double fade = shared_ != nullptr ? kFadeOfSequence : kFadeOfAll;
  counts.n = counts.n * fade + 1;
  counts.n_right = counts.n_right * fade + (is_right ? 1 : 0);
}

double AcceptanceRates::rate(size_t index) const {
  const Counts& counts = counts_[index];
  const double expected = shared_ != nullptr ? shared_->rate(index) : expected_[index];
  return (counts.n_right + kWeightOfExpected * expected) / (counts.n + kWeightOfExpected);
}

}  // namespace mobilellm
