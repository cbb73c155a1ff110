// Whole models against the reference implementation: logits at every position in every chunking, hidden states, greedy
// tokens, log-likelihoods; and bit-identity across threads, chunkings and batches.
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstring>
#include <ostream>
#include <tuple>

#include "base/cpu_features.h"
#include "base/files.h"
#include "codec/codec.h"
#include "golden_model.h"
#include "tests/support/tested_isas.h"

namespace mobilellm {
namespace {

/// Tolerances from the READMEs beside the data: the distance between two f32 implementations, with room.
constexpr double kLogitTolerance = 2e-4;
constexpr double kDualBranchTolerance = 1e-4;
constexpr double kHiddenTolerance = 1e-4;
constexpr double kLogProbTolerance = 2e-4;
/// Mean KL divergence from keys and values as f32.
constexpr double kF16KvTolerance = 5e-6;
constexpr double kI16KvTolerance = 5e-6;
constexpr double kQ8KvTolerance = 1e-3;

struct Case {
  std::string name;    ///< For test names.
  std::string path;    ///< Of the model, below tests/golden.
  std::string golden;  ///< Of the golden tensors.
  double tolerance = kLogitTolerance;
};

void PrintTo(const Case& model, std::ostream* out) { *out << model.path; }

std::string case_name(const testing::TestParamInfo<Case>& info) { return info.param.name; }

std::string test_name(std::string name) {
  for (char& c : name) {
    if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '_';
  }
  return name;
}

/// Folders with prompts, hidden states and greedy runs.
std::vector<Case> float_cases() {
  std::vector<Case> cases;
  for (const std::string& name : list_golden("models", "/")) {
    cases.push_back({test_name(name), "models/" + name, "models/" + name + "/golden.safetensors"});
  }
  for (const std::string& name : list_golden("dual_branch", "/")) {
    cases.push_back({"dual_" + test_name(name), "dual_branch/" + name, "dual_branch/" + name + "/golden.safetensors",
                     kDualBranchTolerance});
  }
  return cases;
}

/// Those with log-likelihoods too.
std::vector<Case> scored_cases() {
  std::vector<Case> cases = float_cases();
  std::erase_if(cases, [](const Case& model) { return !file_exists(golden_path(model.path) + "/golden.json"); });
  return cases;
}

/// Quantized files with one prompt and logits of a float64 pass over the dequantized weights.
std::vector<Case> quantized_cases() {
  std::vector<Case> cases;
  for (const std::string& name : list_golden("mlx", "/")) {
    cases.push_back({"mlx_" + test_name(name), "mlx/" + name, "mlx/" + name + "/golden.safetensors"});
  }
  for (const std::string& name : list_golden("gguf", ".gguf")) {
    cases.push_back({"gguf_" + test_name(name), "gguf/" + name + ".gguf", "gguf/" + name + ".golden.safetensors"});
  }
  return cases;
}

std::vector<Case> all_cases() {
  std::vector<Case> cases = float_cases();
  const std::vector<Case> quantized = quantized_cases();
  cases.insert(cases.end(), quantized.begin(), quantized.end());
  return cases;
}

bool is_bit_identical(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

void expect_close(std::span<const float> got, const TensorView& expected, double tolerance, const std::string& what) {
  const std::vector<float> values = decode_tensor(expected);
  ASSERT_EQ(got.size(), values.size()) << what;
  const Difference worst = max_difference(got, values);
  const auto width = static_cast<size_t>(expected.shape.back());
  EXPECT_LE(worst.value, tolerance) << what << ": position " << worst.index / width << ", column "
                                    << worst.index % width << ": got " << got[worst.index] << ", expected "
                                    << values[worst.index];
}

constexpr size_t kChunks[] = {0, 1, 5, 64};

class FloatModel : public testing::TestWithParam<Case> {};

TEST_P(FloatModel, GivesTheLogitsOfEveryPromptInEveryChunking) {
  GoldenModel model(golden_path(GetParam().path));
  const auto golden = open_safetensors(golden_path(GetParam().golden));
  int n_prompts = 0;
  while (golden->find(fmt::format("prompt{}.logits", n_prompts)) != nullptr) {
    const std::vector<int32_t> ids = read_ids(*golden, fmt::format("prompt{}.input_ids", n_prompts));
    const TensorView& expected = golden->get(fmt::format("prompt{}.logits", n_prompts));
    for (const size_t chunk : kChunks) {
      expect_close(model.logits(ids, chunk), expected, GetParam().tolerance,
                   fmt::format("prompt {} in chunks of {}", n_prompts, chunk));
    }
    ++n_prompts;
  }
  EXPECT_GE(n_prompts, 2);
}

TEST_P(FloatModel, GivesTheHiddenStatesOfEveryLayer) {
  GoldenModel model(golden_path(GetParam().path));
  const auto golden = open_safetensors(golden_path(GetParam().golden));
  const int n_layers = model.loaded().spec.n_layers();
  std::vector<std::vector<float>> hidden(static_cast<size_t>(n_layers) + 2);
  model.runner().set_hidden_observer([&](int index, std::span<const float> values) {
    std::vector<float>& state = hidden.at(static_cast<size_t>(index));
    state.insert(state.end(), values.begin(), values.end());
  });
  model.logits(read_ids(*golden, "prompt1.input_ids"));
  for (int i = 0; i <= n_layers; ++i) {
    expect_close(hidden[static_cast<size_t>(i)], golden->get(fmt::format("prompt1.hidden.{}", i)), kHiddenTolerance,
                 fmt::format("hidden state {}", i));
  }
  const TensorView* final_norm = golden->find("prompt1.final_norm");
  if (final_norm != nullptr) expect_close(hidden.back(), *final_norm, kHiddenTolerance, "final norm");
}

TEST_P(FloatModel, ContinuesGreedilyAsTheReference) {
  GoldenModel model(golden_path(GetParam().path));
  const auto golden = open_safetensors(golden_path(GetParam().golden));
  const std::string prompt = golden->find("greedy.prompt_ids") != nullptr ? "greedy.prompt_ids" : "prompt0.input_ids";
  const std::vector<int32_t> expected = read_ids(*golden, "greedy.ids");
  EXPECT_EQ(model.greedy(read_ids(*golden, prompt), expected.size()), expected);
}

class ScoredModel : public testing::TestWithParam<Case> {};

TEST_P(ScoredModel, GivesTheLogLikelihoods) {
  GoldenModel model(golden_path(GetParam().path));
  const Json golden = Json::parse_file(golden_path(GetParam().path) + "/golden.json");
  for (const Json& item : golden.find("loglikelihood")->as_array()) {
    const std::vector<double> expected = to_numbers(*item.find("logprobs"));
    const std::vector<int32_t> context = to_ids(*item.find("context"));
    const std::vector<int32_t> continuation = to_ids(*item.find("continuation"));
    const std::vector<double> got = model.log_probabilities(context, continuation);
    ASSERT_EQ(got.size(), expected.size());
    double sum = 0;
    for (size_t i = 0; i < got.size(); ++i) {
      EXPECT_NEAR(got[i], expected[i], kLogProbTolerance) << "token " << i;
      sum += got[i];
    }
    EXPECT_NEAR(sum, item.find("sum")->as_double(), kLogProbTolerance * static_cast<double>(got.size()));
    EXPECT_EQ(model.greedy(context, continuation.size()) == continuation, item.find("is_greedy")->as_bool());
  }
}

INSTANTIATE_TEST_SUITE_P(Golden, FloatModel, testing::ValuesIn(float_cases()), case_name);
INSTANTIATE_TEST_SUITE_P(Golden, ScoredModel, testing::ValuesIn(scored_cases()), case_name);

/// A reproducible prompt that is long enough for several pages and chunks.
std::vector<int32_t> make_prompt(size_t n, size_t vocab_size, uint32_t seed) {
  std::vector<int32_t> ids;
  uint32_t state = seed;
  for (size_t i = 0; i < n; ++i) {
    state = state * 1664525U + 1013904223U;
    ids.push_back(static_cast<int32_t>((state >> 8) % vocab_size));
  }
  return ids;
}

class QuantizedModel : public testing::TestWithParam<Case> {};

TEST_P(QuantizedModel, GivesTheLogitsOfItsDequantizedWeights) {
  GoldenModel model(golden_path(GetParam().path));
  const auto golden = open_safetensors(golden_path(GetParam().golden));
  const std::vector<int32_t> ids = read_ids(*golden, "input_ids");
  for (const size_t chunk : kChunks) {
    expect_close(model.logits(ids, chunk), golden->get("logits_ref"), GetParam().tolerance,
                 fmt::format("chunks of {}", chunk));
  }
}

// Activations in 8 bits cost about half a percent of a product's size; a wrong code, scale or zero point costs far
// more.
TEST_P(QuantizedModel, GivesCloseLogitsWithActivationsIn8Bits) {
  GoldenModel exact(golden_path(GetParam().path));
  GoldenModel rounded(golden_path(GetParam().path), 1, KvDtype::kF32, false);
  const std::vector<int32_t> ids = make_prompt(50, exact.vocab_size(), 3);
  const std::vector<float> expected = exact.logits(ids);
  const std::vector<float> got = rounded.logits(ids);
  double error = 0;
  double size = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    error += std::pow(double{got[i]} - double{expected[i]}, 2);
    size += std::pow(double{expected[i]}, 2);
  }
  EXPECT_LT(std::sqrt(error / size), 0.03);
}

INSTANTIATE_TEST_SUITE_P(Golden, QuantizedModel, testing::ValuesIn(quantized_cases()), case_name);

class ExactModel : public testing::TestWithParam<Case> {};

TEST_P(ExactModel, LosesLittleWithNarrowKeysAndValues) {
  const auto logits_with = [](KvDtype kv_dtype) {
    GoldenModel model(golden_path(GetParam().path), 1, kv_dtype);
    return std::make_pair(model.logits(make_prompt(83, model.vocab_size(), 7), 0), model.vocab_size());
  };
  const auto [expected, width] = logits_with(KvDtype::kF32);
  for (const auto& [kv_dtype, tolerance] :
       {std::pair{KvDtype::kF16, kF16KvTolerance}, std::pair{KvDtype::kI16, kI16KvTolerance},
        std::pair{KvDtype::kQ8, kQ8KvTolerance}}) {
    const std::vector<float> got = logits_with(kv_dtype).first;
    double mean = 0;
    for (size_t begin = 0; begin < got.size(); begin += width) {
      mean += kl_divergence(std::span(expected).subspan(begin, width), std::span(got).subspan(begin, width));
    }
    mean *= static_cast<double>(width) / static_cast<double>(got.size());
    EXPECT_LE(mean, tolerance) << static_cast<int>(kv_dtype);
    EXPECT_FALSE(is_bit_identical(got, expected));
  }
}

INSTANTIATE_TEST_SUITE_P(Golden, ExactModel, testing::ValuesIn(all_cases()), case_name);

// Both arithmetics: exact and with activations in 8 bits.
class AnyModel : public testing::TestWithParam<std::tuple<Case, bool>> {
 protected:
  static std::string path() { return golden_path(std::get<0>(GetParam()).path); }
  static bool is_exact() { return std::get<1>(GetParam()); }
};

TEST_P(AnyModel, GivesIdenticalBitsForAnyThreadsChunksAndBatch) {
  constexpr size_t kLength = 83;
  std::vector<float> reference;
  for (const int n_threads : {1, 2, 3}) {
    GoldenModel model(path(), n_threads, KvDtype::kF32, is_exact());
    const std::vector<int32_t> ids = make_prompt(kLength, model.vocab_size(), 7);
    for (const size_t chunk : {0, 1, 3, 16, 64}) {
      const std::vector<float> logits = model.logits(ids, chunk);
      if (reference.empty()) reference = logits;
      EXPECT_TRUE(is_bit_identical(logits, reference)) << n_threads << " threads, chunks of " << chunk;
    }

    // The same prompt among others, which come and go and are at other positions, before and after it in the batch.
    GoldenSequence before = model.start(make_prompt(90, model.vocab_size(), 1));
    GoldenSequence main = model.start(ids);
    GoldenSequence after = model.start(make_prompt(40, model.vocab_size(), 2));
    const auto step = [&](std::vector<GoldenSequence*> sequences, std::vector<size_t> counts) {
      model.feed(sequences, counts);
    };
    step({&before, &main}, {20, 7});
    step({&main, &after}, {1, 13});
    step({&before, &main, &after}, {1, 30, 1});
    step({&after, &main, &before}, {17, 1, 31});
    step({&main}, {19});
    step({&before, &main}, {1, static_cast<size_t>(kLength) - 58});
    EXPECT_TRUE(is_bit_identical(main.logits, reference)) << n_threads << " threads, in a batch";
  }
}

TEST_P(AnyModel, GivesIdenticalBitsForAnyThreadsAndChunksWithNarrowKeysAndValues) {
  for (const KvDtype kv_dtype : {KvDtype::kF16, KvDtype::kI16, KvDtype::kQ8}) {
    std::vector<float> reference;
    for (const int n_threads : {1, 2}) {
      GoldenModel model(path(), n_threads, kv_dtype, is_exact());
      const std::vector<int32_t> ids = make_prompt(83, model.vocab_size(), 7);
      for (const size_t chunk : {0, 1, 16}) {
        const std::vector<float> logits = model.logits(ids, chunk);
        if (reference.empty()) reference = logits;
        EXPECT_TRUE(is_bit_identical(logits, reference)) << n_threads << " threads, chunks of " << chunk;
      }
    }
  }
}

TEST_P(AnyModel, GivesIdenticalBitsOnEveryInstructionSet) {
  std::vector<float> reference;
  for (const Isa isa : tested_isas()) {
    setenv("MOBILELLM_ISA", isa_name(isa), 1);
    GoldenModel model(path(), 1, is_exact() ? KvDtype::kF32 : KvDtype::kI16, is_exact());
    unsetenv("MOBILELLM_ISA");
    const std::vector<float> logits = model.logits(make_prompt(70, model.vocab_size(), 7), 33);
    if (reference.empty()) reference = logits;
    EXPECT_TRUE(is_bit_identical(logits, reference)) << isa_name(isa);
  }
}

INSTANTIATE_TEST_SUITE_P(Golden, AnyModel, testing::Combine(testing::ValuesIn(all_cases()), testing::Bool()),
                         [](const testing::TestParamInfo<std::tuple<Case, bool>>& param_info) {
                           return std::get<0>(param_info.param).name +
                                  (std::get<1>(param_info.param) ? "_exact" : "_rounded");
                         });

TEST(LargeVocabulary, GivesTheReferenceValuesAt128256Tokens) {
  GoldenModel model(golden_path("e2e/r1_vocab128k"), 2);
  const Json golden = Json::parse_file(golden_path("e2e/r1_vocab128k/golden.json"));
  ASSERT_EQ(golden.as_array().size(), 3U);
  for (const Json& item : golden.as_array()) {
    const std::vector<int32_t> ids = to_ids(*item.find("ids"));
    const std::vector<float> logits = model.logits(ids);
    const auto row = [&](size_t i) {
      return std::span<const float>(logits).subspan(i * model.vocab_size(), model.vocab_size());
    };
    const std::vector<double> sums = to_numbers(*item.find("logsumexp"));
    const std::vector<double> targets = to_numbers(*item.find("target_logprobs"));
    for (size_t i = 0; i < sums.size(); ++i) EXPECT_NEAR(log_sum_exp(row(i)), sums[i], kLogProbTolerance);
    for (size_t i = 0; i < targets.size(); ++i) {
      EXPECT_NEAR(log_probability(row(i), ids[i + 1]), targets[i], kLogProbTolerance);
    }
    const std::vector<int32_t> top_ids = to_ids(*item.find("last_top_ids"));
    const std::vector<double> top_logits = to_numbers(*item.find("last_top_logits"));
    for (size_t i = 0; i < top_ids.size(); ++i) {
      EXPECT_NEAR(static_cast<double>(row(ids.size() - 1)[static_cast<size_t>(top_ids[i])]), top_logits[i],
                  kLogitTolerance);
    }
    const std::vector<int32_t> greedy = to_ids(*item.find("greedy_ids"));
    EXPECT_EQ(model.greedy(ids, greedy.size()), greedy);
  }
}

std::vector<Json> read_json_lines(const std::string& path) {
  std::vector<Json> lines;
  const std::string text = read_file(path, size_t{16} << 20);
  size_t begin = 0;
  while (begin < text.size()) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    if (end > begin) lines.push_back(Json::parse(std::string_view(text).substr(begin, end - begin), path));
    begin = end + 1;
  }
  return lines;
}

TEST(ChatModel, AnswersTheGoldenConversations) {
  GoldenModel model(golden_path("e2e/r1_chat"));
  const LoadedModel& loaded = model.loaded();
  ASSERT_NE(loaded.tokenizer, nullptr);
  ASSERT_NE(loaded.chat_template, nullptr);
  EXPECT_THAT(loaded.spec.eos_ids, testing::UnorderedElementsAre(1001, 1008, 1009));
  const std::vector<Json> lines = read_json_lines(golden_path("e2e/r1_chat/golden_chat.jsonl"));
  ASSERT_FALSE(lines.empty());
  for (const Json& line : lines) {
    ChatTemplate::Inputs inputs;
    inputs.messages = *line.find("messages");
    inputs.bos_token = loaded.bos_token;
    inputs.eos_token = loaded.eos_token;
    const std::string prompt = loaded.chat_template->render(inputs);
    ASSERT_EQ(prompt, line.find("prompt_text")->as_string());
    const std::vector<int32_t> ids = loaded.tokenizer->encode(prompt);
    ASSERT_EQ(ids, to_ids(*line.find("prompt_ids")));
    const std::vector<int32_t> expected = to_ids(*line.find("output_ids"));
    const std::vector<int32_t> output = model.greedy(ids, 48, loaded.spec.eos_ids);
    EXPECT_EQ(output, expected);
    EXPECT_EQ(loaded.tokenizer->decode(output, true), line.find("output_text")->as_string());
  }
}

TEST(ChatModel, ScoresTexts) {
  GoldenModel model(golden_path("e2e/r1_chat"));
  const Json golden = Json::parse_file(golden_path("e2e/r1_chat/golden_scores.json"));
  for (const Json& item : golden.find("loglikelihood")->as_array()) {
    const std::vector<int32_t> context = to_ids(*item.find("context_ids"));
    EXPECT_EQ(model.loaded().tokenizer->encode(item.find("context")->as_string(), {.add_special = true}), context);
    const std::vector<double> got = model.log_probabilities(context, to_ids(*item.find("continuation_ids")));
    const std::vector<double> expected = to_numbers(*item.find("logprobs"));
    ASSERT_EQ(got.size(), expected.size());
    for (size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], expected[i], kLogProbTolerance);
  }
  const Json& item = *golden.find("perplexity");
  const std::vector<int32_t> ids = to_ids(*item.find("ids"));
  double sum = 0;
  for (const double value : model.log_probabilities({ids.begin(), ids.begin() + 1}, {ids.begin() + 1, ids.end()})) {
    sum -= value;
  }
  const double perplexity = std::exp(sum / static_cast<double>(ids.size() - 1));
  EXPECT_NEAR(perplexity / item.find("perplexity")->as_double(), 1.0, 1e-4);
}

}  // namespace
}  // namespace mobilellm
