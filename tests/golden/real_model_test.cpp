// The real SmolLM2-135M against the reference: chats, perplexity, multiple choice. Skipped where its file is absent.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>

#include "base/files.h"
#include "golden_model.h"

namespace mobilellm {
namespace {

/// From real_smollm2/README.md, for f32 activations.
constexpr double kTolerance = 2e-3;
constexpr double kPerplexityTolerance = 1e-3;

std::string model_path() {
  const char* path = std::getenv("MOBILELLM_TEST_GGUF");
  if (path != nullptr) return path;
  const char* cache = std::getenv("XDG_CACHE_HOME");
  const char* home = std::getenv("HOME");
  const std::string root =
      cache != nullptr && *cache != '\0' ? cache : std::string(home == nullptr ? "" : home) + "/.cache";
  return root + "/mobilellm/models/SmolLM2-135M-Instruct.Q4_1.gguf";
}

class RealModel : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    if (!file_exists(model_path())) return;
    golden_ = new Json(Json::parse_file(golden_path("real_smollm2/golden.json")));
    model_ = new GoldenModel(model_path(), 0);
  }
  static void TearDownTestSuite() {
    delete model_;
    delete golden_;
    model_ = nullptr;
    golden_ = nullptr;
  }
  void SetUp() override {
    if (model_ == nullptr) {
      GTEST_SKIP() << "no " << model_path() << " (set MOBILELLM_TEST_GGUF, or fetch the model with ./run)";
    }
  }

  static GoldenModel* model_;
  static Json* golden_;
};

GoldenModel* RealModel::model_ = nullptr;
Json* RealModel::golden_ = nullptr;

TEST_F(RealModel, HasTheDimensionsOfItsConfig) {
  const ModelSpec& spec = model_->loaded().spec;
  const Json& config = *golden_->find("config");
  EXPECT_EQ(spec.d_model, config.find("hidden_size")->as_int());
  EXPECT_EQ(spec.n_layers(), config.find("num_hidden_layers")->as_int());
  EXPECT_EQ(spec.vocab_size, config.find("vocab_size")->as_int());
  EXPECT_EQ(spec.layers[0].head_dim, config.find("head_dim")->as_int());
  EXPECT_EQ(spec.max_context, config.find("max_position_embeddings")->as_int());
  EXPECT_TRUE(spec.is_output_tied);
  EXPECT_EQ(parameter_count(spec), 134515008);
  EXPECT_EQ(spec.eos_ids, std::vector<int64_t>{2});
}

TEST_F(RealModel, AnswersTheGoldenChats) {
  const LoadedModel& loaded = model_->loaded();
  ASSERT_NE(loaded.tokenizer, nullptr);
  ASSERT_NE(loaded.chat_template, nullptr);
  for (const Json& chat : golden_->find("chats")->as_array()) {
    ChatTemplate::Inputs inputs;
    inputs.messages = *chat.find("messages");
    inputs.bos_token = loaded.bos_token;
    inputs.eos_token = loaded.eos_token;
    const std::string prompt = loaded.chat_template->render(inputs);
    ASSERT_EQ(prompt, chat.find("prompt_text")->as_string());
    const std::vector<int32_t> ids = loaded.tokenizer->encode(prompt);
    ASSERT_EQ(ids, to_ids(*chat.find("prompt_ids")));

    const std::vector<float> logits = model_->logits(ids);
    const auto last = std::span<const float>(logits).last(model_->vocab_size());
    EXPECT_NEAR(log_sum_exp(last), chat.find("last_logsumexp")->as_double(), kTolerance);
    const std::vector<int32_t> top_ids = to_ids(*chat.find("last_top_ids"));
    const std::vector<double> top_logits = to_numbers(*chat.find("last_top_logits"));
    for (size_t i = 0; i < top_ids.size(); ++i) {
      EXPECT_NEAR(static_cast<double>(last[static_cast<size_t>(top_ids[i])]), top_logits[i], kTolerance);
    }
    const std::vector<int32_t> greedy = model_->greedy(ids, 48, loaded.spec.eos_ids);
    EXPECT_EQ(greedy, to_ids(*chat.find("greedy_ids")));
    EXPECT_EQ(loaded.tokenizer->decode(greedy, true), chat.find("greedy_text")->as_string());
  }
}

TEST_F(RealModel, HasTheGoldenPerplexity) {
  for (const Json& item : golden_->find("perplexity")->as_array()) {
    const std::vector<int32_t> ids = to_ids(*item.find("ids"));
    EXPECT_EQ(model_->loaded().tokenizer->encode(item.find("text")->as_string()), ids);
    const std::vector<double> expected = to_numbers(*item.find("logprobs"));
    const std::vector<double> got =
        model_->log_probabilities({ids.begin(), ids.begin() + 1}, {ids.begin() + 1, ids.end()});
    ASSERT_EQ(got.size(), expected.size());
    double sum = 0;
    for (size_t i = 0; i < got.size(); ++i) {
      EXPECT_NEAR(got[i], expected[i], kTolerance) << "token " << i + 1;
      sum -= got[i];
    }
    const double perplexity = std::exp(sum / static_cast<double>(got.size()));
    EXPECT_NEAR(perplexity / item.find("perplexity")->as_double(), 1.0, kPerplexityTolerance);
  }
}

TEST_F(RealModel, ChoosesTheGoldenOptions) {
  for (const Json& item : golden_->find("multiple_choice")->as_array()) {
    const std::vector<int32_t> context = model_->loaded().tokenizer->encode(item.find("context")->as_string());
    int64_t best = -1;
    int64_t best_per_byte = -1;
    double best_sum = -INFINITY;
    double best_rate = -INFINITY;
    int64_t index = 0;
    for (const Json& option : item.find("options")->as_array()) {
      double sum = 0;
      for (const double value : model_->log_probabilities(context, to_ids(*option.find("ids")))) sum += value;
      EXPECT_NEAR(sum, option.find("logprob")->as_double(), kTolerance);
      const double rate = sum / option.find("bytes")->as_double();
      if (sum > best_sum) {
        best_sum = sum;
        best = index;
      }
      if (rate > best_rate) {
        best_rate = rate;
        best_per_byte = index;
      }
      ++index;
    }
    EXPECT_EQ(best, item.find("acc_choice")->as_int());
    EXPECT_EQ(best_per_byte, item.find("acc_norm_choice")->as_int());
  }
}

}  // namespace
}  // namespace mobilellm
