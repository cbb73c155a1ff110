// The order of the sampling rules, and the choice at their end.
#include "engine/sampler/sampler.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/error.h"
#include "engine/sampler/fast_exp.h"
#include "engine/sampler/rules.h"

namespace mobilellm {
namespace {

struct Rule {
  const char* name;
  bool (*is_on)(const SamplingParams&);
  void (*apply)(Candidates&, const SamplingParams&, const TokenHistory&);
};

// The rules that change logits also serve greedy decoding.
constexpr Rule kPenalties[] = {
    {"logit_bias", [](const SamplingParams& p) { return !p.logit_bias.empty(); }, apply_logit_bias},
    {"repetition_penalty", [](const SamplingParams& p) { return p.repetition_penalty != 1; }, apply_repetition_penalty},
    {"frequency_presence", [](const SamplingParams& p) { return p.frequency_penalty != 0 || p.presence_penalty != 0; },
     apply_frequency_presence},
    {"no_repeat_ngram", [](const SamplingParams& p) { return p.no_repeat_ngram > 0; }, apply_no_repeat_ngram},
};

// Temperature first, as transformers, vLLM and hosted services do; mlx-lm and llama.cpp put it last.
constexpr Rule kFilters[] = {
    {"temperature", [](const SamplingParams& p) { return p.temperature != 1; }, apply_temperature},
    {"top_k", [](const SamplingParams& p) { return p.top_k > 0; }, apply_top_k},
    {"top_p", [](const SamplingParams& p) { return p.top_p < 1; }, apply_top_p},
    {"min_p", [](const SamplingParams& p) { return p.min_p > 0; }, apply_min_p},
    {"typical_p", [](const SamplingParams& p) { return p.typical_p < 1; }, apply_typical_p},
    {"epsilon", [](const SamplingParams& p) { return p.epsilon > 0; }, apply_epsilon},
    {"eta", [](const SamplingParams& p) { return p.eta > 0; }, apply_eta},
};

bool has_penalty(const SamplingParams& params) {
  return std::any_of(std::begin(kPenalties), std::end(kPenalties),
                     [&](const Rule& rule) { return rule.is_on(params); });
}

void check_range(const char* name, double value, double min, double max, bool is_min_open) {
  // Written so that NaN fails.
  if ((is_min_open ? value > min : value >= min) && value <= max) return;
  fail(ErrorCode::kInvalidArgument, "[sampling] {}: got {}, expected {} {} to {}", name, value,
       is_min_open ? "above" : "from", min, max);
}

}  // namespace

void validate(const SamplingParams& params, int vocab_size) {
  check_range("temperature", params.temperature, 0, 1e6, false);
  check_range("top_p", params.top_p, 0, 1, true);
  check_range("min_p", params.min_p, 0, 1, false);
  check_range("typical_p", params.typical_p, 0, 1, true);
  check_range("epsilon", params.epsilon, 0, 1, false);
  check_range("eta", params.eta, 0, 1, false);
  check_range("repetition_penalty", params.repetition_penalty, 0, 1e6, true);
  check_range("frequency_penalty", params.frequency_penalty, -2, 2, false);
  check_range("presence_penalty", params.presence_penalty, -2, 2, false);
  if (params.top_k < -1) {
    fail(ErrorCode::kInvalidArgument, "[sampling] top_k: got {}, expected -1 or more", params.top_k);
  }
  if (params.no_repeat_ngram < 0) {
    fail(ErrorCode::kInvalidArgument, "[sampling] no_repeat_ngram: got {}, expected 0 or more", params.no_repeat_ngram);
  }
  for (const auto& [id, bias] : params.logit_bias) {
    if (id < 0 || id >= vocab_size) {
      fail(ErrorCode::kInvalidArgument, "[sampling] logit_bias: token id {} is outside the vocabulary of {}", id,
           vocab_size);
    }
    check_range("logit_bias", bias, -100, 100, false);
  }
}

int32_t argmax(std::span<const float> logits) {
  // Independent maxima, so that the loop is not one chain of dependent comparisons.
  constexpr size_t kLanes = 16;
  std::array<float, kLanes> best;
  best.fill(-std::numeric_limits<float>::infinity());
  std::array<int, kLanes> broken{};
  const size_t n_blocks = logits.size() / kLanes;
  for (size_t block = 0; block < n_blocks; ++block) {
    const float* x = logits.data() + block * kLanes;
    for (size_t lane = 0; lane < kLanes; ++lane) {
      best[lane] = x[lane] > best[lane] ? x[lane] : best[lane];
      broken[lane] |= !(x[lane] < std::numeric_limits<float>::infinity());
    }
  }
  float max = -std::numeric_limits<float>::infinity();
  bool is_broken = false;
  for (size_t lane = 0; lane < kLanes; ++lane) {
    max = std::max(max, best[lane]);
    is_broken |= broken[lane] != 0;
  }
  for (size_t i = n_blocks * kLanes; i < logits.size(); ++i) {
    max = std::max(max, logits[i]);
    is_broken |= !(logits[i] < std::numeric_limits<float>::infinity());
  }
  if (is_broken) fail(ErrorCode::kInternal, "[sampler] the model's logits hold NaN or infinity");
  if (std::isinf(max)) fail(ErrorCode::kInternal, "[sampler] every logit of the model is -infinity");
  return static_cast<int32_t>(std::find(logits.begin(), logits.end(), max) - logits.begin());
}

double log_sum_exp(std::span<const float> logits) {
  const double max = logits[static_cast<size_t>(argmax(logits))];
  // Blocks whose values are all in range go through a loop without branches.
  std::array<double, 64> x;
  std::array<double, 8> sum{};
  for (size_t begin = 0; begin < logits.size(); begin += x.size()) {
    const size_t n = std::min(x.size(), logits.size() - begin);
    double min = 0;
    for (size_t i = 0; i < n; ++i) {
      x[i] = logits[begin + i] - max;
      min = std::min(min, x[i]);
    }
    if (n == x.size() && min >= kLowestExponent) {
      for (size_t i = 0; i < x.size(); i += sum.size()) {
        for (size_t lane = 0; lane < sum.size(); ++lane) sum[lane] += exp_in_range(x[i + lane]);
      }
    } else {
      for (size_t i = 0; i < n; ++i) sum[i % sum.size()] += exp_nonpositive(x[i]);
    }
  }
  return max + std::log(std::accumulate(sum.begin(), sum.end(), 0.0));
}

void Sampler::apply_rules(std::span<const float> logits, const SamplingParams& params, const TokenHistory& history) {
  candidates_.reset(logits);
  for (const Rule& rule : kPenalties) {
    if (rule.is_on(params)) rule.apply(candidates_, params, history);
  }
  if (params.is_greedy()) {
    const size_t best = candidates_.largest();
    if (std::isinf(candidates_.logit(best))) {
      fail(ErrorCode::kInvalidArgument, "[sampler] every token is forbidden by the sampling rules");
    }
    candidates_.keep_if([&](size_t i) { return i == best; });
    return;
  }
  for (const Rule& rule : kFilters) {
    if (rule.is_on(params)) rule.apply(candidates_, params, history);
  }
}

int32_t Sampler::sample(std::span<const float> logits, const SamplingParams& params, const TokenHistory& history,
                        double uniform) {
  if (params.is_greedy() && !has_penalty(params)) return argmax(logits);
  apply_rules(logits, params, history);
  const auto weights = candidates_.weights();
  double left = uniform * candidates_.total_weight();
  size_t chosen = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    if (weights[i] <= 0) continue;
    chosen = i;  // Also the answer when rounding leaves a rest after the last candidate.
    left -= weights[i];
    if (left < 0) break;
  }
  return candidates_.id(chosen);
}

std::vector<std::pair<int32_t, double>> Sampler::distribution(std::span<const float> logits,
                                                              const SamplingParams& params,
                                                              const TokenHistory& history) {
  apply_rules(logits, params, history);
  std::vector<std::pair<int32_t, double>> result;
  const auto weights = candidates_.weights();
  const double total = candidates_.total_weight();
  for (size_t i = 0; i < weights.size(); ++i) {
    if (weights[i] > 0) result.emplace_back(candidates_.id(i), weights[i] / total);
  }
  return result;
}

}  // namespace mobilellm
