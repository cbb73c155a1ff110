// What the index finds and what the match foretells, against a search through the whole text.
#include <gtest/gtest.h>

#include <algorithm>

#include "base/random.h"
#include "engine/speculation/lookup_match.h"

namespace mobilellm {
namespace {

std::vector<int32_t> foretold(const LookupMatch& match, int n) {
  std::vector<int32_t> tokens;
  match.draft(n, tokens);
  EXPECT_EQ(static_cast<int>(tokens.size()), match.n_foretold(n));
  return tokens;
}

void push_all(LookupMatch& match, std::initializer_list<int32_t> tokens) {
  for (const int32_t token : tokens) (void)match.push(token);
}

TEST(LookupMatch, ForetellsWhatFollowedTheLongestEqualRun) {
  LookupMatch match(std::make_shared<LookupIndex>());
  push_all(match, {1, 2, 3, 4, 5, 9, 3, 4, 6, 7});
  EXPECT_EQ(match.length(), 0) << "7 is new";
  push_all(match, {2, 3, 4});
  EXPECT_EQ(match.length(), 3) << "2 3 4 is longer than the later 3 4";
  EXPECT_EQ(foretold(match, 3), (std::vector<int32_t>{5, 9, 3}));
}

TEST(LookupMatch, OfEqualRunsTheLaterOneCounts) {
  LookupMatch match(std::make_shared<LookupIndex>());
  push_all(match, {1, 2, 3, 8, 1, 2, 4, 9, 1, 2});
  EXPECT_EQ(match.length(), 2);
  EXPECT_EQ(foretold(match, 1), (std::vector<int32_t>{4}));
}

TEST(LookupMatch, ForetellsBeyondTheEndOfALoop) {
  LookupMatch match(std::make_shared<LookupIndex>());
  push_all(match, {7, 8, 9, 7, 8, 9, 7});
  EXPECT_EQ(foretold(match, 8), (std::vector<int32_t>{8, 9, 7, 8, 9, 7, 8, 9}));
}

TEST(LookupMatch, TellsWhetherItWasRight) {
  LookupMatch match(std::make_shared<LookupIndex>());
  push_all(match, {1, 2, 3, 1});
  auto result = match.push(2);
  ASSERT_TRUE(result.has_value());
  EXPECT_TRUE(result->is_right);
  EXPECT_EQ(result->length, 1);
  result = match.push(5);
  ASSERT_TRUE(result.has_value());
  EXPECT_FALSE(result->is_right);
  EXPECT_EQ(result->length, 2);
  EXPECT_FALSE(match.push(6).has_value());
}

TEST(LookupMatch, SamplesFindWhatTheOthersSaid) {
  LookupMatch first(std::make_shared<LookupIndex>());
  push_all(first, {1, 2, 3});
  LookupMatch second = first;
  push_all(first, {4, 5, 6, 7});
  push_all(second, {9, 5});
  EXPECT_EQ(foretold(second, 2), (std::vector<int32_t>{6, 7}));
  push_all(second, {1, 2, 3, 4});
  EXPECT_EQ(foretold(second, 2), (std::vector<int32_t>{5, 6})) << "across the end of the shared prompt";
}

// The match is never shorter than half of the longest one there is (runs are looked up in lengths 1, 2, 4, 8), and the
// tokens before it are really equal.
TEST(LookupMatch, FindsLongMatchesInRandomTexts) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    LookupMatch match(std::make_shared<LookupIndex>());
    std::vector<int32_t> text;
    for (uint64_t i = 0; i < 400; ++i) {
      // Copies of earlier parts between random tokens.
      const bool copies = text.size() > 50 && random_bits(seed, 1, i / 12) % 2 == 0;
      const auto from = static_cast<size_t>(random_bits(seed, 2, i / 12) % 30 + i % 12);
      text.push_back(copies ? text[from] : static_cast<int32_t>(random_bits(seed, 3, i) % 20));
      (void)match.push(text.back());
      int longest = 0;
      const auto n = static_cast<int>(text.size());
      for (int end = 0; end + 1 < n; ++end) {
        int length = 0;
        while (length <= end && text[static_cast<size_t>(end - length)] == text[static_cast<size_t>(n - 1 - length)]) {
          ++length;
        }
        longest = std::max(longest, length);
      }
      EXPECT_LE(match.length(), longest);
      EXPECT_GE(2 * match.length(), std::min(longest, 16)) << "seed " << seed << " at " << i;
    }
  }
}

// Time per token does not grow with the text, even when all of it is alike.
TEST(LookupIndex, TakesMillionsOfEqualTokens) {
  LookupMatch match(std::make_shared<LookupIndex>());
  for (int i = 0; i < 300'000; ++i) (void)match.push(5);
  EXPECT_EQ(foretold(match, 3), (std::vector<int32_t>{5, 5, 5}));
  for (int i = 0; i < 300'000; ++i) (void)match.push(i);
  EXPECT_EQ(match.length(), 0);
}

}  // namespace
}  // namespace mobilellm
