#include "base/random.h"

#include <gtest/gtest.h>

namespace mobilellm {
namespace {

TEST(Random, MatchesThePublishedPhiloxVector) {
  // Random123 known-answer test: philox4x32-10, counter and key all zero -> 6627e8d5 e169c58d bc57ac4c 9b00dbd8.
  EXPECT_EQ(random_bits(0, 0, 0), 0xe169c58d6627e8d5u);
  // Counter and key all ones -> 408f276d 41c83b0e a20bc7c6 6d5451fd.
  EXPECT_EQ(random_bits(~0ull, ~0ull, ~0ull), 0x41c83b0e408f276du);
}

TEST(Random, UniformHasTheRightMeanAndRange) {
  double sum = 0;
  for (uint64_t i = 0; i < 100000; ++i) {
    const double u = random_uniform(7, 3, i);
    ASSERT_GE(u, 0.0);
    ASSERT_LT(u, 1.0);
    sum += u;
  }
  EXPECT_NEAR(sum / 100000, 0.5, 0.005);
}

}  // namespace
}  // namespace mobilellm
