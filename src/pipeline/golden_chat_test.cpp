// The golden chat model through the whole pipeline on the CPU backend.
#include <gtest/gtest.h>

#include <fstream>

#include "base/error.h"
#include "pipeline/pipeline.h"

namespace mobilellm {
namespace {

const std::string kModelDir = MOBILELLM_SOURCE_DIR "/tests/golden/e2e/r1_chat";

struct Golden {
  GenerateRequest request;
  std::vector<int32_t> output_ids;
  std::string text;
  std::string finish_reason;
};

std::vector<Golden> read_goldens() {
  std::vector<Golden> goldens;
  std::ifstream file(kModelDir + "/golden_chat.jsonl");
  for (std::string line; std::getline(file, line);) {
    const Json json = Json::parse(line, "golden_chat.jsonl");
    Golden golden;
    golden.request.messages = *json.find("messages");
    golden.request.max_tokens = 48;
    for (const Json& id : json.find("output_ids")->as_array()) {
      golden.output_ids.push_back(static_cast<int32_t>(id.as_int()));
    }
    golden.text = json.find("output_text")->as_string();
    golden.finish_reason = json.find("finish_reason")->as_string();
    goldens.push_back(std::move(golden));
  }
  return goldens;
}

TEST(GoldenChat, GreedyAnswersAreThoseOfTheReference) {
  for (const int prefill_chunk : {512, 7}) {
    TextModelOptions options;
    options.n_threads = 2;
    options.prefill_chunk = prefill_chunk;
    const auto model = TextModel::load(kModelDir, options);
    for (const Golden& golden : read_goldens()) {
      std::string shown;
      const auto result = model->generate(golden.request, [&](const TextPiece& piece) {
        shown += piece.text;
        return true;
      });
      EXPECT_EQ(result.output_ids, golden.output_ids);
      EXPECT_EQ(result.text, golden.text);
      EXPECT_EQ(shown, golden.text);
      EXPECT_EQ(to_string(result.finish_reason), golden.finish_reason);
    }
  }
}

// With the model itself as the draft model, wrong guesses come from lookup only; both kinds at once, in one batch.
TEST(GoldenChat, GuessesChangeNothing) {
  TextModelOptions options;
  options.speculation = {.mode = SpeculationMode::kAuto, .max_draft = 5, .is_eager = true};
  for (const bool has_draft_model : {false, true}) {
    if (has_draft_model) options.draft_model = kModelDir;
    const auto model = TextModel::load(kModelDir, options);
    TextModelOptions plain_options;
    plain_options.speculation.mode = SpeculationMode::kOff;
    const auto plain_model = TextModel::load(kModelDir, plain_options);
    std::vector<GenerateRequest> requests;
    for (const Golden& golden : read_goldens()) {
      GenerateRequest request = golden.request;
      request.n_logprobs = 3;
      requests.push_back(request);
      request.sampling.temperature = 0.7;
      request.sampling.repetition_penalty = 1.1;
      request.sampling.seed = 7;
      for (request.stream = 0; request.stream < 2; ++request.stream) requests.push_back(request);
    }
    const auto results = model->generate_all(requests);
    const auto expected = plain_model->generate_all(requests);
    for (size_t i = 0; i < requests.size(); ++i) {
      EXPECT_EQ(results[i].text, expected[i].text);
      EXPECT_EQ(results[i].output_ids, expected[i].output_ids);
      for (size_t j = 0; j < results[i].logprobs.size(); ++j) {
        EXPECT_EQ(results[i].logprobs[j].logprob, expected[i].logprobs[j].logprob) << "not bit by bit the same";
      }
    }
    EXPECT_GT(model->stats().speculation.n_drafted, 100U);
    EXPECT_GT(model->stats().speculation.n_accepted, 10U);
    EXPECT_EQ(plain_model->stats().speculation.n_drafted, 0U);
  }
}

TEST(GoldenChat, AllAtOnceEqualEachAlone) {
  const auto model = TextModel::load(kModelDir);
  const auto goldens = read_goldens();
  std::vector<GenerateRequest> requests;
  for (const Golden& golden : goldens) requests.push_back(golden.request);
  const auto results = model->generate_all(requests);
  for (size_t i = 0; i < goldens.size(); ++i) EXPECT_EQ(results[i].output_ids, goldens[i].output_ids);
}

TEST(GoldenChat, SamplesDependOnSeedAndStreamAlone) {
  const auto model = TextModel::load(kModelDir);
  GenerateRequest request;
  request.prompt = "Say hi";
  request.sampling.temperature = 1;
  request.sampling.seed = 3;
  request.max_tokens = 16;
  std::vector<GenerateRequest> requests(4, request);
  for (uint64_t i = 0; i < requests.size(); ++i) requests[i].stream = i;
  const auto results = model->generate_all(requests);
  for (size_t i = 0; i < requests.size(); ++i) {
    EXPECT_EQ(results[i].output_ids, model->generate(requests[i]).output_ids);
    if (i > 0) {
      EXPECT_NE(results[i].output_ids, results[0].output_ids);
    }
  }
}

TEST(GoldenChat, LoadingCanBeCancelled) {
  TextModelOptions options;
  options.on_progress = [](double) { return false; };
  try {
    TextModel::load(kModelDir, options);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kCancelled);
  }
}

}  // namespace
}  // namespace mobilellm
