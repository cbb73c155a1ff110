// Distributions against the reference, greedy ties, broken logits, and the choice between candidates.
#include "engine/sampler/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <map>

#include "base/error.h"
#include "base/json.h"
#include "base/random.h"
#include "engine/sampler/fast_exp.h"

namespace mobilellm {
namespace {

std::vector<float> to_floats(const Json& values) {
  std::vector<float> result;
  for (const Json& value : values.as_array()) result.push_back(static_cast<float>(value.as_double()));
  return result;
}

SamplingParams to_params(const Json& json) {
  SamplingParams p;
  p.temperature = 1;
  for (const auto& [key, value] : json.as_object()) {
    const std::map<std::string, double*> numbers = {{"temperature", &p.temperature},
                                                    {"top_p", &p.top_p},
                                                    {"min_p", &p.min_p},
                                                    {"typical_p", &p.typical_p},
                                                    {"epsilon", &p.epsilon},
                                                    {"eta", &p.eta},
                                                    {"repetition_penalty", &p.repetition_penalty},
                                                    {"frequency_penalty", &p.frequency_penalty},
                                                    {"presence_penalty", &p.presence_penalty}};
    if (key == "top_k") {
      p.top_k = value.as_int();
    } else if (key == "no_repeat_ngram") {
      p.no_repeat_ngram = static_cast<int>(value.as_int());
    } else {
      *numbers.at(key) = value.as_double();
    }
  }
  return p;
}

TEST(Sampler, MatchesReferenceDistributions) {
  const std::string dir = MOBILELLM_SOURCE_DIR "/tests/vectors/sampling/";
  const Json logits = Json::parse_file(dir + "logits.json");
  std::ifstream cases(dir + "cases.jsonl");
  Sampler sampler;
  int n_cases = 0;
  for (std::string line; std::getline(cases, line); ++n_cases) {
    SCOPED_TRACE("case " + std::to_string(n_cases));
    const Json json = Json::parse(line, "cases.jsonl");
    const auto values = to_floats(logits.as_array()[static_cast<size_t>(json.find("logits")->as_int())]);
    const SamplingParams params = to_params(*json.find("params"));
    TokenHistory history(params);
    for (const Json& token : json.find("history")->as_array()) {
      history.add_generated(static_cast<int32_t>(token.as_int()));
    }
    const auto result = sampler.distribution(values, params, history);
    std::vector<int64_t> ids, expected_ids;
    for (const auto& [id, p] : result) ids.push_back(id);
    for (const Json& id : json.find("kept_ids")->as_array()) expected_ids.push_back(id.as_int());
    ASSERT_EQ(ids, expected_ids) << line.substr(0, 200);
    const auto& probs = json.find("probs")->as_array();
    for (size_t i = 0; i < result.size(); ++i) ASSERT_NEAR(result[i].second, probs[i].as_double(), 1e-9);
  }
  EXPECT_EQ(n_cases, 270);
}

TEST(FastExp, EqualsTheLibraryFunction) {
  EXPECT_EQ(exp_nonpositive(0), 1);
  EXPECT_EQ(exp_nonpositive(-std::numeric_limits<double>::infinity()), 0);
  for (uint64_t i = 0; i < 20000; ++i) {
    const double x = -random_uniform(1, 1, i) * (i % 2 == 0 ? 2 : 708);
    EXPECT_NEAR(exp_nonpositive(x) / std::exp(x), 1, 5e-16) << x;
  }
}

TEST(Sampler, LogSumExpTakesLargeLogits) {
  EXPECT_NEAR(log_sum_exp(std::vector<float>{1000, 1000}), 1000 + std::log(2), 1e-12);
  std::vector<float> logits(37);
  double sum = 0;
  for (size_t i = 0; i < logits.size(); ++i) sum += std::exp(double{logits[i] = static_cast<float>(i) / 7});
  EXPECT_NEAR(log_sum_exp(logits), std::log(sum), 1e-12);
}

TEST(Sampler, GreedyTakesTheFirstOfEqualLogits) {
  std::vector<float> logits(100, -1);
  logits[37] = logits[36] = logits[99] = 2;
  EXPECT_EQ(argmax(logits), 36);
  Sampler sampler;
  SamplingParams params;
  params.logit_bias = {{0, 1.0}};  // Takes the path with penalties.
  EXPECT_EQ(sampler.sample(logits, params, TokenHistory(params), 0), 36);
}

TEST(Sampler, GreedyIgnoresFilters) {
  const std::vector<float> logits = {0, 3, 1};
  SamplingParams params;
  params.top_p = 0.1;
  params.top_k = 2;
  params.min_p = 0.9;
  Sampler sampler;
  EXPECT_EQ(sampler.sample(logits, params, TokenHistory(params), 0.99), 1);
}

TEST(Sampler, BrokenLogitsAreAnError) {
  Sampler sampler;
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    for (const size_t place : {0U, 5U, 39U}) {
      for (const double temperature : {0.0, 1.0}) {
        std::vector<float> logits(40, 1);
        logits[place] = bad;
        SamplingParams params;
        params.temperature = temperature;
        EXPECT_THROW(sampler.sample(logits, params, TokenHistory(params), 0.5), Error);
      }
    }
  }
}

TEST(Sampler, ForbiddingEverythingIsAnError) {
  Sampler sampler;
  for (const double temperature : {0.0, 0.7}) {
    SamplingParams params;
    params.temperature = temperature;
    params.logit_bias = {{0, -100}, {1, -100}};
    EXPECT_THROW(sampler.sample(std::vector<float>{1, 2}, params, TokenHistory(params), 0.5), Error);
  }
}

TEST(Sampler, SampleFollowsTheDistribution) {
  std::vector<float> logits(50);
  for (size_t i = 0; i < logits.size(); ++i) logits[i] = static_cast<float>(random_uniform(1, 2, i) * 6);
  SamplingParams params;
  params.temperature = 0.8;
  params.top_p = 0.9;
  Sampler sampler;
  const TokenHistory history(params);
  const auto expected = sampler.distribution(logits, params, history);
  std::map<int32_t, int> counts;
  constexpr int kDraws = 20000;
  for (int i = 0; i < kDraws; ++i) {
    ++counts[sampler.sample(logits, params, history, random_uniform(7, 0, static_cast<uint64_t>(i)))];
  }
  for (const auto& [id, p] : expected) {
    EXPECT_NEAR(counts[id] / double{kDraws}, p, 5 * std::sqrt(p * (1 - p) / kDraws)) << id;
    counts.erase(id);
  }
  EXPECT_TRUE(counts.empty());
}

TEST(Sampler, UniformAtItsEndsChoosesFirstAndLastCandidate) {
  const std::vector<float> logits = {-std::numeric_limits<float>::infinity(), 1, 1, 1,
                                     -std::numeric_limits<float>::infinity()};
  SamplingParams params;
  params.temperature = 1;
  Sampler sampler;
  EXPECT_EQ(sampler.sample(logits, params, TokenHistory(params), 0), 1);
  EXPECT_EQ(sampler.sample(logits, params, TokenHistory(params), std::nextafter(1.0, 0.0)), 3);
}

// The linear-time selection against a plain sort, on large and flat distributions.
TEST(Sampler, NucleusEqualsSortedNucleus) {
  for (const double spread : {0.0, 0.01, 1.0, 8.0}) {
    std::vector<float> logits(5000);
    for (size_t i = 0; i < logits.size(); ++i) logits[i] = static_cast<float>(random_uniform(3, 4, i) * spread);
    for (const double top_p : {0.05, 0.5, 0.9, 0.999}) {
      SamplingParams params;
      params.temperature = 1;
      params.top_p = top_p;
      Sampler sampler;
      const auto kept = sampler.distribution(logits, params, TokenHistory(params));
      std::vector<std::pair<double, int>> order;
      double total = 0;
      for (size_t i = 0; i < logits.size(); ++i) {
        order.emplace_back(-std::exp(double{logits[i]}), static_cast<int>(i));
        total -= order.back().first;
      }
      std::sort(order.begin(), order.end());
      size_t n = 0;
      for (double before = 0; n < order.size() && before < top_p * total * (1 - 1e-12); ++n) before -= order[n].first;
      EXPECT_EQ(kept.size(), n) << spread << " " << top_p;
    }
  }
}

TEST(Sampler, RepetitionPenaltyCountsThePromptOnlyWhenAsked) {
  const std::vector<float> logits = {4, 3, 2};
  SamplingParams params;
  params.repetition_penalty = 2;
  Sampler sampler;
  for (const bool with_prompt : {false, true}) {
    params.penalize_prompt = with_prompt;
    TokenHistory history(params);
    history.add_prompt(std::vector<int32_t>{0});
    EXPECT_EQ(sampler.sample(logits, params, history, 0), with_prompt ? 1 : 0);
  }
}

TEST(Sampler, FrequencyPenaltyNeverCountsThePrompt) {
  const std::vector<float> logits = {4, 3.5, 2};
  SamplingParams params;
  params.frequency_penalty = 1;
  params.penalize_prompt = true;
  TokenHistory history(params);
  history.add_prompt(std::vector<int32_t>{0, 0});
  Sampler sampler;
  EXPECT_EQ(sampler.sample(logits, params, history, 0), 0);
  history.add_generated(0);
  EXPECT_EQ(sampler.sample(logits, params, history, 0), 1);
}

TEST(SamplingParams, RangesAreCheckedByName) {
  const auto message = [](auto change) -> std::string {
    SamplingParams params;
    change(params);
    try {
      validate(params, 10);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(message([](SamplingParams&) {}), "");
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_NE(message([](auto& p) { p.temperature = -1; }).find("temperature"), std::string::npos);
  EXPECT_NE(message([&](auto& p) { p.temperature = nan; }).find("temperature"), std::string::npos);
  EXPECT_NE(message([](auto& p) { p.top_p = 0; }).find("top_p"), std::string::npos);
  EXPECT_NE(message([](auto& p) { p.top_k = -2; }).find("top_k"), std::string::npos);
  EXPECT_NE(message([](auto& p) { p.repetition_penalty = 0; }).find("repetition_penalty"), std::string::npos);
  EXPECT_NE(message([](auto& p) { p.logit_bias = {{10, 1}}; }).find("logit_bias"), std::string::npos);
  EXPECT_NE(message([](auto& p) { p.presence_penalty = 3; }).find("presence_penalty"), std::string::npos);
}

}  // namespace
}  // namespace mobilellm
