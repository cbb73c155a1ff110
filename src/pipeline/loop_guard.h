/// Notices that the last tokens repeat themselves with a period.
#pragma once

#include <cstdint>
#include <vector>

namespace mobilellm {

/// A loop is a period of at most 512 tokens seen at least four times over at least 128 tokens: longer than the rows of
/// dashes or digits that honest answers contain. One comparison per period and token.
class LoopGuard {
 public:
  static constexpr int kMaxPeriod = 512;
  static constexpr int kMinRepeats = 4;
  static constexpr int kMinTokens = 128;

  LoopGuard();
  /// True when the tokens so far end in a loop.
  bool push(int32_t token);
  /// The period of the loop found last, in tokens; 0 before.
  int period() const { return period_; }
  /// Forgets everything, e.g. after other tokens were put in.
  void reset();

 private:
  std::vector<int32_t> tokens_;   // ring of the last kMaxPeriod tokens
  std::vector<int32_t> matches_;  // [period]: how many tokens in a row equal the one `period` earlier
  int64_t n_ = 0;
  int period_ = 0;
};

}  // namespace mobilellm
