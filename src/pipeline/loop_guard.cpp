// Run lengths per period.
#include "pipeline/loop_guard.h"

#include <algorithm>

namespace mobilellm {

LoopGuard::LoopGuard() : tokens_(kMaxPeriod), matches_(kMaxPeriod + 1) {}

void LoopGuard::reset() {
  std::fill(matches_.begin(), matches_.end(), 0);
  n_ = 0;
}

bool LoopGuard::push(int32_t token) {
  bool is_loop = false;
  const auto longest = static_cast<int>(std::min<int64_t>(n_, kMaxPeriod));
  for (int period = 1; period <= longest; ++period) {
    int32_t& run = matches_[static_cast<size_t>(period)];
    run = tokens_[static_cast<size_t>((n_ - period) % kMaxPeriod)] == token ? run + 1 : 0;
    if (!is_loop && run >= std::max((kMinRepeats - 1) * period, kMinTokens - period)) {
      is_loop = true;
      period_ = period;
    }
  }
  tokens_[static_cast<size_t>(n_ % kMaxPeriod)] = token;
  ++n_;
  return is_loop;
}

}  // namespace mobilellm
