// How many tokens are drafted, given what they bring and cost.
#include "engine/speculation/draft_length.h"

#include <gtest/gtest.h>

#include <cmath>

#include "engine/speculation/acceptance.h"

namespace mobilellm {
namespace {

Survival geometric(double rate, int n) {
  Survival survival;
  for (int i = 1; i <= n; ++i) survival.push_back(std::pow(rate, i));
  return survival;
}

DraftLengths choose(const std::vector<Survival>& candidates, const StepCost& cost, double min_gain) {
  return choose_draft_lengths(candidates, cost, min_gain);
}

// Steps that cost 1 + slope per drafted token, seen for all of these numbers.
StepCost linear_cost(int n_sequences, double slope, std::initializer_list<int> numbers) {
  StepCost cost;
  for (int i = 0; i < 20; ++i) {
    cost.record(n_sequences, 0, 0.01);
    for (const int n : numbers) cost.record(n_sequences, n, 0.01 * (1 + slope * n));
  }
  return cost;
}

TEST(DraftLength, FreeGuessesAreAllTaken) {
  const auto chosen = choose({geometric(0.5, 8)}, linear_cost(1, 0, {4, 8}), 1.02);
  EXPECT_EQ(chosen.lengths, (std::vector<int>{8}));
}

TEST(DraftLength, NothingIsDraftedWhereItDoesNotPay) {
  const StepCost cost = linear_cost(1, 0.3, {1, 2, 4, 8});
  EXPECT_EQ(choose({geometric(0.3, 8)}, cost, 1.02).n_drafted, 0);
  EXPECT_EQ(choose({{}}, cost, 1.02).n_drafted, 0);
  EXPECT_EQ(choose({{}}, cost, 1.02).gain, 1);
}

TEST(DraftLength, MaximizesTokensPerTime) {
  for (const double rate : {0.6, 0.8, 0.95}) {
    for (const double slope : {0.05, 0.2}) {
      const StepCost cost = linear_cost(1, slope, {1, 2, 3, 4, 6, 8, 12, 16});
      const Survival survival = geometric(rate, 16);
      const auto chosen = choose({survival}, cost, 1.02);
      double best = 1;
      double n_tokens = 1;
      for (int n = 1; n <= 16; ++n) {
        n_tokens += survival[static_cast<size_t>(n - 1)];
        best = std::max(best, n_tokens / (1 + slope * n));
      }
      EXPECT_NEAR(chosen.gain, best, 0.01 * best) << rate << " " << slope;
    }
  }
}

TEST(DraftLength, TheSurerSequenceGetsMore) {
  const StepCost cost = linear_cost(2, 0.1, {1, 2, 4, 8, 16});
  const auto chosen = choose({geometric(0.5, 16), geometric(0.95, 16)}, cost, 1.02);
  EXPECT_GT(chosen.lengths[1], chosen.lengths[0]);
  EXPECT_EQ(chosen.lengths[0] + chosen.lengths[1], chosen.n_drafted);
}

// A matrix unit that takes 16 rows at the price of one.
TEST(StepCost, LearnsStairs) {
  StepCost cost;
  const auto seconds = [](int n_rows) { return 0.01 * ((n_rows + 15) / 16); };
  for (int i = 0; i < 10; ++i) {
    cost.record(1, 0, seconds(1));
    for (const int n : {3, 7, 15, 16, 31}) cost.record(1, n, seconds(1 + n));
  }
  EXPECT_NEAR(cost.ratio(1, 15), 1, 0.01);
  EXPECT_NEAR(cost.ratio(1, 16), 2, 0.01);
  EXPECT_NEAR(cost.ratio(1, 20), 2, 0.01);
  EXPECT_NEAR(cost.plain_seconds(1), 0.01, 1e-4);
  EXPECT_EQ(choose({geometric(0.8, 32)}, cost, 1.02).lengths[0], 15);
}

TEST(StepCost, OneDisturbedStepChangesLittle) {
  StepCost cost = linear_cost(4, 0.1, {4});
  const double before = cost.ratio(4, 4);
  cost.record(4, 4, 1.0);
  EXPECT_LT(cost.ratio(4, 4), before * 1.1);
  cost.record(4, 0, 1.0);
  EXPECT_LT(cost.plain_seconds(4), 0.01 * 1.2);
}

TEST(StepCost, ADisturbedFirstTryIsNotTheLast) {
  StepCost cost;
  for (int i = 0; i < 10; ++i) cost.record(1, 0, 0.01);
  const double before = cost.ratio(1, 3);
  cost.record(1, 3, 0.5);
  EXPECT_LE(cost.ratio(1, 3), before);
  cost.record(1, 3, 0.011);
  cost.record(1, 3, 0.011);
  EXPECT_NEAR(cost.ratio(1, 3), 1.1, 0.01);
}

TEST(StepCost, HighCostsAreForgottenSlowly) {
  StepCost cost;
  for (int i = 0; i < 10; ++i) {
    cost.record(1, 0, 0.01);
    cost.record(1, 1, 0.05);
  }
  EXPECT_NEAR(cost.ratio(1, 1), 5, 0.2);
  for (int i = 0; i < 100; ++i) cost.record(1, 0, 0.01);
  EXPECT_GT(cost.ratio(1, 1), 3);
  for (int i = 0; i < 2000; ++i) cost.record(1, 0, 0.01);
  EXPECT_LT(cost.ratio(1, 1), 1.5);
  for (int i = 0; i < 10; ++i) cost.record(1, 1, 0.05);
  EXPECT_GT(cost.ratio(1, 1), 3) << "and learnt again soon";
}

TEST(StepCost, FollowsAMachineThatBecomesSlower) {
  StepCost cost = linear_cost(1, 0.2, {4});
  for (int i = 0; i < 40; ++i) {
    cost.record(1, 0, 0.03);
    cost.record(1, 4, 0.03 * 3);
  }
  EXPECT_NEAR(cost.plain_seconds(1), 0.03, 0.003);
  EXPECT_NEAR(cost.ratio(1, 4), 3, 0.2);
}

TEST(StepCost, UntriedNumbersAreGuessedFromTriedOnes) {
  StepCost cost;
  EXPECT_EQ(cost.ratio(3, 0), 1);
  EXPECT_GT(cost.ratio(1, 8), cost.ratio(1, 4));
  cost.record(1, 0, 0.01);
  cost.record(1, 4, 0.012);
  EXPECT_NEAR(cost.ratio(1, 2), 1.1, 0.01);
  EXPECT_NEAR(cost.ratio(1, 8), 1.4, 0.01);
  EXPECT_EQ(cost.n_plain(1), 1);
  EXPECT_EQ(cost.n_plain(9), 0);
}

TEST(AcceptanceRates, FollowTheEvidence) {
  const std::vector<double> expected = {0.2, 0.9};
  AcceptanceRates all(expected);
  AcceptanceRates one(&all);
  EXPECT_DOUBLE_EQ(one.rate(0), 0.2);
  EXPECT_DOUBLE_EQ(one.rate(1), 0.9);
  for (int i = 0; i < 200; ++i) one.record(0, true);
  EXPECT_GT(one.rate(0), 0.85);
  EXPECT_DOUBLE_EQ(all.rate(0), 0.2);
  for (int i = 0; i < 200; ++i) all.record(1, false);
  EXPECT_LT(one.rate(1), 0.1) << "a sequence that has shown nothing follows the others";
  for (int i = 0; i < 100; ++i) one.record(0, false);
  EXPECT_LT(one.rate(0), 0.2) << "what was long ago is forgotten";
}

}  // namespace
}  // namespace mobilellm
