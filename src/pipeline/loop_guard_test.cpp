// Loops of every period are found; honest repetition is not.
#include "pipeline/loop_guard.h"

#include <gtest/gtest.h>

#include <vector>

#include "base/random.h"

namespace mobilellm {
namespace {

// Tokens until the guard speaks, -1 when it does not.
int tokens_until_loop(LoopGuard& guard, const std::vector<int32_t>& tokens) {
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (guard.push(tokens[i])) return static_cast<int>(i) + 1;
  }
  return -1;
}

std::vector<int32_t> noise(size_t n, uint64_t stream) {
  std::vector<int32_t> tokens(n);
  for (size_t i = 0; i < n; ++i) tokens[i] = static_cast<int32_t>(random_bits(1, stream, i) % 1000);
  return tokens;
}

std::vector<int32_t> repeated(const std::vector<int32_t>& period, int n_tokens) {
  std::vector<int32_t> tokens;
  for (int i = 0; i < n_tokens; ++i) tokens.push_back(period[static_cast<size_t>(i) % period.size()]);
  return tokens;
}

TEST(LoopGuard, FindsEveryPeriodAfterFourRepeats) {
  for (const int period : {1, 2, 7, 40, 100, 511, 512}) {
    LoopGuard guard;
    ASSERT_EQ(tokens_until_loop(guard, noise(777, 5)), -1);
    auto tokens = noise(static_cast<size_t>(period), 6);
    tokens.back() = 5000;  // Differs from the noise before, so the loop begins exactly here.
    const int expected = std::max(4 * period, LoopGuard::kMinTokens);
    const int found = tokens_until_loop(guard, repeated(tokens, expected + 10));
    EXPECT_LE(found, expected);
    EXPECT_GE(found, expected - 1) << period;
    EXPECT_EQ(guard.period(), period);
  }
}

TEST(LoopGuard, LeavesHonestRepetitionAlone) {
  LoopGuard guard;
  // A table rule, a counted list, three equal paragraphs.
  EXPECT_EQ(tokens_until_loop(guard, std::vector<int32_t>(100, 12)), -1);
  std::vector<int32_t> list;
  for (int i = 0; i < 300; ++i) list.insert(list.end(), {10, 2000 + i, 11, 12});
  EXPECT_EQ(tokens_until_loop(guard, list), -1);
  EXPECT_EQ(tokens_until_loop(guard, repeated(noise(200, 9), 600)), -1);
}

}  // namespace
}  // namespace mobilellm
