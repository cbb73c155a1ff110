// The C++ API on a tiny chat model: errors, and that nothing is lost or added on the way to the pipeline and back.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <thread>

#include "base/files.h"
#include "base/json.h"
#include "base/log.h"
#include "mobilellm/mobilellm.h"
#include "pipeline/pipeline.h"

namespace mobilellm {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const std::string kModel = MOBILELLM_SOURCE_DIR "/tests/golden/e2e/r1_chat";

/// Expects an Error and gives its message.
template <typename F>
std::string error_of(ErrorCode code, F&& call) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(static_cast<int>(error.code()), static_cast<int>(code)) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "no error";
  return "";
}

Model& model() {
  static Model instance = Model::load(kModel, {.n_threads = 2});
  return instance;
}

std::vector<Json> golden_chats() {
  std::vector<Json> chats;
  std::string text = read_file(kModel + "/golden_chat.jsonl", size_t{1} << 20);
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = text.find('\n', begin);
    if (end > begin) chats.push_back(Json::parse(text.substr(begin, end - begin), "golden_chat.jsonl"));
    if (end == std::string::npos) break;
    begin = end + 1;
  }
  return chats;
}

std::vector<int32_t> ids_of(const Json& list) {
  std::vector<int32_t> ids;
  for (const Json& id : list.as_array()) ids.push_back(static_cast<int32_t>(id.as_int()));
  return ids;
}

// A request whose output has different characters in it.
GenerationRequest sampled_request(uint64_t seed = 1) {
  GenerationRequest request;
  request.prompt = "What is 2+2?";
  request.sampling.temperature = 1;
  request.sampling.seed = seed;
  request.max_tokens = 40;
  request.ignore_eos = true;
  return request;
}

TEST(ModelLoad, ErrorsNameWhatIsWrong) {
  EXPECT_THAT(error_of(ErrorCode::kNotFound, [] { Model::load("/no/such/model"); }), HasSubstr("/no/such/model"));
  EXPECT_THAT(error_of(ErrorCode::kNotFound, [] { Model::load(MOBILELLM_SOURCE_DIR "/tests"); }), HasSubstr("tests"));
  EXPECT_THAT(error_of(ErrorCode::kInvalidArgument, [] { Model::load(""); }), HasSubstr("path"));
  EXPECT_THAT(error_of(ErrorCode::kInvalidArgument, [] { Model::load(kModel + std::string("\0x", 2)); }),
              HasSubstr("zero byte"));
  const auto error_with = [](const ModelOptions& options) {
    return error_of(ErrorCode::kInvalidArgument, [&] { Model::load(kModel, options); });
  };
  EXPECT_THAT(error_with({.n_threads = -1}), HasSubstr("n_threads: got -1"));
  EXPECT_THAT(error_with({.n_threads = 100000}), HasSubstr("n_threads"));
  EXPECT_THAT(error_with({.context = -5}), HasSubstr("context: got -5"));
  EXPECT_THAT(error_with({.max_kv_tokens = -1}), HasSubstr("max_kv_tokens"));
  EXPECT_THAT(error_with({.prefill_chunk = 0}), HasSubstr("prefill_chunk: got 0"));
  EXPECT_THAT(error_with({.max_draft = 65}), HasSubstr("max_draft: got 65"));
  EXPECT_THAT(error_with({.speculation = static_cast<Speculation>(3)}), HasSubstr("speculation: got 3"));
  EXPECT_THAT(error_with({.draft_model = MOBILELLM_SOURCE_DIR "/tests/golden/models/llama_tied"}),
              HasSubstr("[draft model] vocabulary: got"));
}

TEST(ModelLoad, GuessesDoNotChangeResults) {
  GenerationRequest request;
  request.prompt = "Say it again and again.";
  request.max_tokens = 40;
  request.ignore_eos = true;
  Model plain = Model::load(kModel, {.speculation = Speculation::kOff});
  const GenerationResult expected = plain.generate(request);
  for (const Speculation speculation : {Speculation::kLookup, Speculation::kAuto}) {
    Model model = Model::load(kModel, {.speculation = speculation, .max_draft = 8, .draft_model = kModel});
    EXPECT_EQ(model.generate(request).output_ids, expected.output_ids);
  }
}

TEST(ModelLoad, ReportsProgressAndCanBeCancelled) {
  std::vector<double> seen;
  Model::load(kModel, {.n_threads = 1, .on_progress = [&](double fraction) {
                         seen.push_back(fraction);
                         return true;
                       }});
  ASSERT_FALSE(seen.empty());
  EXPECT_EQ(seen.back(), 1);
  EXPECT_TRUE(std::is_sorted(seen.begin(), seen.end()));
  error_of(ErrorCode::kCancelled, [] { Model::load(kModel, {.on_progress = [](double) { return false; }}); });
}

TEST(ModelLoad, BrokenFileIsNamed) {
  const auto folder = std::filesystem::temp_directory_path() / ("mobilellm_facade_" + std::to_string(::getpid()));
  std::filesystem::create_directories(folder);
  std::filesystem::copy(kModel, folder,
                        std::filesystem::copy_options::recursive | std::filesystem::copy_options::overwrite_existing);
  std::filesystem::resize_file(folder / "model.safetensors", 1000);
  EXPECT_THAT(error_of(ErrorCode::kCorruptData, [&] { Model::load(folder.string()); }), HasSubstr("model.safetensors"));
  std::filesystem::remove_all(folder);
}

TEST(ModelInfo, TellsTheFacts) {
  const ModelInfo& info = model().info();
  EXPECT_EQ(info.path, kModel);
  EXPECT_EQ(info.format, "safetensors");
  EXPECT_EQ(info.architecture, "llama4_text");
  EXPECT_EQ(info.n_layers, 3);
  EXPECT_EQ(info.d_model, 64);
  EXPECT_EQ(info.vocab_size, 1024);
  EXPECT_EQ(info.max_context, 2048);
  EXPECT_EQ(info.context, 2048);
  EXPECT_GT(info.parameters, 1024 * 64);
  EXPECT_GT(info.kv_bytes_per_token, 0U);
  EXPECT_EQ(info.bos_id, 1000);
  EXPECT_THAT(info.eos_ids, ElementsAre(1001, 1008, 1009));
  EXPECT_TRUE(info.has_tokenizer);
  EXPECT_TRUE(info.has_chat_format);
  EXPECT_EQ(Model::load(kModel, {.n_threads = 1, .context = 100}).info().context, 100);

  const SamplingOptions sampling = model().recommended_sampling();
  EXPECT_EQ(sampling.temperature, 0.6);
  EXPECT_EQ(sampling.top_p, 0.9);
  EXPECT_EQ(sampling.top_k, 0);
  EXPECT_EQ(sampling.repetition_penalty, 1);
}

TEST(TextTokenizerTest, RoundTripAndSpecialTokens) {
  const TextTokenizer tokenizer = TextTokenizer::load(kModel);
  const std::string text = "Hello w\xC3\xB6rld \xF0\x9F\x98\x80 <|eot_id|> 1234";
  const std::vector<int32_t> ids = tokenizer.encode(text);
  EXPECT_EQ(tokenizer.decode(ids), text);
  EXPECT_EQ(model().tokenizer().encode(text), ids);
  EXPECT_EQ(std::count(ids.begin(), ids.end(), 1009), 0) << "a forged special token";

  EXPECT_EQ(tokenizer.find("<|eot_id|>"), 1009);
  EXPECT_EQ(tokenizer.find("no such token"), std::nullopt);
  EXPECT_TRUE(tokenizer.is_special(1009));
  EXPECT_FALSE(tokenizer.is_special(97));
  EXPECT_THAT(tokenizer.encode("<|eot_id|>", {.parse_special = true}), ElementsAre(1009));
  EXPECT_THAT(tokenizer.encode("", {.add_special = true}), ElementsAre(1000));
  EXPECT_EQ(tokenizer.decode(std::vector<int32_t>{1000, ids[0]}, true), tokenizer.token_bytes(ids[0]));
  EXPECT_EQ(tokenizer.token_bytes(-1), "");
  EXPECT_EQ(tokenizer.vocab_size(), 1024U);
  EXPECT_EQ(tokenizer.bos_id(), 1000);
  EXPECT_THAT(tokenizer.description(), HasSubstr("BPE"));
}

TEST(TextTokenizerTest, OutlivesItsModel) {
  std::optional<Model> short_lived = Model::load(kModel, {.n_threads = 1});
  const TextTokenizer tokenizer = short_lived->tokenizer();
  const ChatFormat format = short_lived->chat_format();
  const TextTokenizer copy = tokenizer;
  short_lived.reset();
  EXPECT_EQ(copy.decode(tokenizer.encode("still here")), "still here");
  EXPECT_THAT(format.render({{"user", "x"}}), HasSubstr("<|begin_of_text|>"));
}

TEST(TextTokenizerTest, LoadErrors) {
  error_of(ErrorCode::kNotFound, [] { TextTokenizer::load("/no/such/folder"); });
  error_of(ErrorCode::kInvalidArgument, [] { TextTokenizer::load(""); });
  error_of(ErrorCode::kNotFound, [] { ChatFormat::load("/no/such/folder"); });
  // Has config and weights, but neither tokenizer nor template.
  const std::string bare = MOBILELLM_SOURCE_DIR "/tests/golden/e2e/r1_vocab128k";
  EXPECT_THAT(error_of(ErrorCode::kNotFound, [&] { TextTokenizer::load(bare); }), HasSubstr(bare));
  EXPECT_THAT(error_of(ErrorCode::kNotFound, [&] { ChatFormat::load(bare); }), HasSubstr(bare));
  Model without = Model::load(bare, {.n_threads = 1});
  EXPECT_FALSE(without.info().has_tokenizer);
  EXPECT_FALSE(without.info().has_chat_format);
  error_of(ErrorCode::kNotFound, [&] { without.tokenizer(); });
  error_of(ErrorCode::kNotFound, [&] { without.chat_format(); });
  error_of(ErrorCode::kNotFound, [&] { without.generate(sampled_request()); });
}

TEST(ChatFormatTest, RendersAsTheReference) {
  const ChatFormat format = ChatFormat::load(kModel);
  for (const Json& chat : golden_chats()) {
    const std::string expected = chat.find("prompt_text")->as_string();
    std::vector<ChatMessage> messages;
    for (const Json& message : chat.find("messages")->as_array()) {
      messages.push_back({message.find("role")->as_string(), message.find("content")->as_string()});
    }
    EXPECT_EQ(format.render(messages), expected);
    EXPECT_EQ(format.render_json(chat.find("messages")->dump()), expected);
    EXPECT_EQ(model().chat_format().render(messages), expected);
    const std::string header = "<|start_header_id|>assistant<|end_header_id|>\n\n";
    EXPECT_EQ(format.render(messages, {.add_generation_prompt = false}) + header, expected);
  }
  EXPECT_THAT(format.source(), HasSubstr("start_header_id"));
}

TEST(ChatFormatTest, ArgumentsReachTheTemplate) {
  const ChatFormat format = ChatFormat::load(kModel);
  const std::vector<ChatMessage> messages = {{"user", "x"}};
  EXPECT_THAT(format.render(messages, {.template_args_json = R"({"bos_token": "BOS"})"}),
              ::testing::StartsWith("BOS<|start"));
  error_of(ErrorCode::kInvalidArgument, [&] { format.render({}); });
  const auto error_with = [&](const RenderOptions& options) {
    return error_of(ErrorCode::kInvalidArgument, [&] { format.render(messages, options); });
  };
  EXPECT_THAT(error_with({.tools_json = "{}"}), HasSubstr("tools_json: got object, expected array"));
  EXPECT_THAT(error_with({.tools_json = "[1,"}), HasSubstr("tools_json"));
  EXPECT_THAT(error_with({.template_args_json = "[]"}), HasSubstr("template_args_json"));
  EXPECT_THAT(error_with({.now = "yesterday"}), HasSubstr("yesterday"));
  EXPECT_THAT(error_of(ErrorCode::kInvalidArgument, [&] { format.render_json("nonsense"); }),
              HasSubstr("messages_json"));
}

TEST(Generate, EqualsTheGoldenChats) {
  for (const Json& chat : golden_chats()) {
    GenerationRequest request;
    request.messages_json = chat.find("messages")->dump();
    request.max_tokens = 48;
    const PromptPreview preview = model().preview(request);
    EXPECT_EQ(preview.text, chat.find("prompt_text")->as_string());
    EXPECT_EQ(preview.ids, ids_of(*chat.find("prompt_ids")));
    EXPECT_TRUE(preview.used_template);
    const GenerationResult result = model().generate(request);
    EXPECT_EQ(result.output_ids, ids_of(*chat.find("output_ids")));
    EXPECT_EQ(result.text, chat.find("output_text")->as_string());
    EXPECT_EQ(result.answer, result.text);
    EXPECT_STREQ(to_string(result.end), chat.find("finish_reason")->as_string().c_str());
    EXPECT_EQ(result.prompt_tokens, static_cast<int64_t>(preview.ids.size()));
    EXPECT_EQ(result.completion_tokens, static_cast<int64_t>(result.output_ids.size()));
    // The same prompt in its other forms.
    GenerationRequest same;
    same.prompt_ids = preview.ids;
    same.max_tokens = 48;
    EXPECT_EQ(model().generate(same).output_ids, result.output_ids);
    same.prompt_ids.clear();
    same.prompt = preview.text;
    same.use_chat_template = false;
    EXPECT_EQ(model().generate(same).output_ids, result.output_ids);
  }
}

// Every member of a request arrives, and every member of a result comes back.
TEST(Generate, EqualsThePipeline) {
  const auto pipeline = TextModel::load(kModel);
  GenerationRequest request = sampled_request(7);
  request.system = "Be brief.";
  request.prefill_response = "It is ";
  request.sampling.top_k = 50;
  request.sampling.top_p = 0.95;
  request.sampling.min_p = 0.001;
  request.sampling.repetition_penalty = 1.2;
  request.sampling.frequency_penalty = 0.1;
  request.sampling.presence_penalty = 0.2;
  request.sampling.penalize_prompt = true;
  request.sampling.logit_bias = {{97, -100.0}, {120, 2.0}};
  request.stop = {"", "e"};
  request.n_logprobs = 3;
  request.sample = 4;
  GenerateRequest internal;
  internal.prompt = request.prompt;
  internal.system = request.system;
  internal.prefill_response = request.prefill_response;
  internal.sampling = {.temperature = 1,
                       .top_k = 50,
                       .top_p = 0.95,
                       .min_p = 0.001,
                       .repetition_penalty = 1.2,
                       .frequency_penalty = 0.1,
                       .presence_penalty = 0.2,
                       .penalize_prompt = true,
                       .logit_bias = {{97, -100.0}, {120, 2.0}},
                       .seed = 7};
  internal.max_tokens = 40;
  internal.stop = request.stop;
  internal.ignore_eos = true;
  internal.n_logprobs = 3;
  internal.stream = 4;
  const GenerationResult result = model().generate(request);
  const GenerateResult expected = pipeline->generate(internal);
  EXPECT_EQ(result.text, expected.text);
  EXPECT_EQ(result.reasoning, expected.reasoning);
  EXPECT_EQ(result.answer, expected.answer);
  EXPECT_EQ(result.boxed, expected.boxed);
  EXPECT_STREQ(to_string(result.end), to_string(expected.finish_reason));
  EXPECT_STREQ(to_string(result.cause), to_string(expected.stop_detail));
  EXPECT_EQ(result.stop_string, expected.stop_string);
  EXPECT_EQ(result.prompt_tokens, expected.prompt_tokens);
  EXPECT_EQ(result.completion_tokens, expected.completion_tokens);
  EXPECT_EQ(result.output_ids, expected.output_ids);
  EXPECT_GT(result.prompt_seconds, 0);
  ASSERT_EQ(result.logprobs.size(), expected.logprobs.size());
  ASSERT_FALSE(result.logprobs.empty());
  for (size_t i = 0; i < result.logprobs.size(); ++i) {
    EXPECT_EQ(result.logprobs[i].id, result.output_ids[i]);
    EXPECT_EQ(result.logprobs[i].logprob, expected.logprobs[i].logprob);
    ASSERT_EQ(result.logprobs[i].top.size(), 3U);
    for (size_t k = 0; k < 3; ++k) {
      EXPECT_EQ(result.logprobs[i].top[k].id, expected.logprobs[i].top[k].token);
      EXPECT_EQ(result.logprobs[i].top[k].logprob, expected.logprobs[i].top[k].logprob);
    }
  }
}

TEST(Generate, ControlsReachThePipeline) {
  const auto pipeline = TextModel::load(kModel);
  const auto expect_equal = [&](const GenerationRequest& request, const GenerateRequest& internal) {
    const GenerationResult result = model().generate(request);
    const GenerateResult expected = pipeline->generate(internal);
    EXPECT_EQ(result.output_ids, expected.output_ids);
    EXPECT_EQ(result.reasoning, expected.reasoning);
    EXPECT_EQ(result.answer, expected.answer);
    EXPECT_EQ(result.boxed, expected.boxed);
    EXPECT_EQ(result.forced_tokens, expected.forced_tokens);
    EXPECT_EQ(result.reasoning_tokens, expected.reasoning_tokens);
    EXPECT_STREQ(to_string(result.cause), to_string(expected.stop_detail));
    return result;
  };
  const auto internal_of = [](const char* prompt, int64_t max_tokens) {
    GenerateRequest internal;
    internal.prompt = prompt;
    internal.max_tokens = max_tokens;
    return internal;
  };
  {
    GenerationRequest request{.prompt = "1+1", .max_tokens = 700, .loop_guard = LoopGuard::kOn};
    GenerateRequest internal = internal_of("1+1", 700);
    internal.loop_guard = LoopGuardMode::kOn;
    const GenerationResult result = expect_equal(request, internal);
    EXPECT_EQ(result.end, GenerationEnd::kLoop) << "the model repeats itself";
    EXPECT_LT(result.completion_tokens, 700);
    request.loop_guard = LoopGuard::kOff;
    internal.loop_guard = LoopGuardMode::kOff;
    EXPECT_NE(expect_equal(request, internal).end, GenerationEnd::kLoop);
  }
  {
    const GenerationRequest request{
        .prompt = "1+1", .final_only = true, .max_tokens = 100, .stop_at_boxed = true, .thinking_budget = 5};
    GenerateRequest internal = internal_of("1+1", 100);
    internal.final_only = true;
    internal.stop_at_boxed = true;
    internal.thinking_budget = 5;
    EXPECT_GT(expect_equal(request, internal).forced_tokens, 0);
  }
  {
    GenerationRequest request{.prompt = "1+1 <think>", .use_chat_template = false, .max_tokens = 10};
    GenerateRequest internal = internal_of("1+1 <think>", 10);
    internal.use_chat_template = false;
    EXPECT_NE(expect_equal(request, internal).reasoning, "");
    request.split_reasoning = false;
    internal.split_reasoning = false;
    EXPECT_EQ(expect_equal(request, internal).reasoning, "");
  }
  {
    const int32_t first = model().generate({.prompt = "1+1", .max_tokens = 1}).output_ids.at(0);
    const GenerationRequest request{.prompt = "1+1", .max_tokens = 10, .extra_eos_ids = {first}};
    GenerateRequest internal = internal_of("1+1", 10);
    internal.extra_eos_ids = {first};
    EXPECT_EQ(expect_equal(request, internal).completion_tokens, 1);
  }
}

TEST(Generate, StreamedPiecesJoinedAreTheText) {
  for (uint64_t seed = 0; seed < 5; ++seed) {
    std::string answer, reasoning;
    GenerationRequest request = sampled_request(seed);
    const GenerationResult result = model().generate(request, [&](const GenerationPiece& piece) {
      EXPECT_EQ(piece.index, 0U);
      EXPECT_FALSE(piece.text.empty());
      (piece.is_reasoning ? reasoning : answer) += piece.text;
      return true;
    });
    EXPECT_EQ(answer, result.answer);
    EXPECT_EQ(answer, result.text);
    EXPECT_EQ(reasoning, "");
    EXPECT_EQ(result.completion_tokens, 40);
    EXPECT_EQ(result.cause, GenerationCause::kMaxTokens);
  }
  std::string answer, reasoning;
  GenerationRequest request = sampled_request();
  request.use_chat_template = false;
  request.prompt = "Hm. <think>";
  const GenerationResult result = model().generate(request, [&](const GenerationPiece& piece) {
    (piece.is_reasoning ? reasoning : answer) += piece.text;
    return true;
  });
  EXPECT_NE(reasoning, "");
  EXPECT_EQ(reasoning, result.reasoning);
  EXPECT_EQ(answer, result.answer);
}

TEST(Generate, CallbackCancels) {
  const GenerationResult whole = model().generate(sampled_request());
  int n_pieces = 0;
  std::string shown;
  const GenerationResult result = model().generate(sampled_request(), [&](const GenerationPiece& piece) {
    shown += piece.text;
    return ++n_pieces < 3;
  });
  EXPECT_EQ(n_pieces, 3) << "nothing comes after the answer false";
  EXPECT_EQ(result.end, GenerationEnd::kCancelled);
  EXPECT_EQ(result.cause, GenerationCause::kNone);
  EXPECT_LT(result.completion_tokens, 40);
  EXPECT_EQ(whole.text.substr(0, shown.size()), shown);
  EXPECT_EQ(result.text.substr(0, shown.size()), shown);
}

TEST(Generate, FlagCancelsFromAnotherThread) {
  std::atomic<bool> cancel = true;
  GenerationRequest request = sampled_request();
  request.max_tokens.reset();
  request.cancel = &cancel;
  EXPECT_EQ(model().generate(request).end, GenerationEnd::kCancelled);
  EXPECT_EQ(model().generate(request).completion_tokens, 0);

  cancel = false;
  std::atomic<bool> has_begun = false;
  std::thread other([&] {
    while (!has_begun) std::this_thread::yield();
    cancel = true;
  });
  const GenerationResult result = model().generate(request, [&](const GenerationPiece&) {
    has_begun = true;
    // Stay until the flag is set, so that the end does not depend on who is faster.
    while (!cancel) std::this_thread::yield();
    return true;
  });
  other.join();
  EXPECT_EQ(result.end, GenerationEnd::kCancelled);
  EXPECT_LT(result.completion_tokens, 40);
}

TEST(Generate, SeveralAtOnceEqualEachAlone) {
  std::vector<GenerationRequest> requests;
  for (uint64_t sample = 0; sample < 3; ++sample) {
    requests.push_back(sampled_request());
    requests.back().sample = sample;
  }
  requests.push_back({.prompt = "Something else", .max_tokens = 20});
  requests.push_back(sampled_request(9));
  std::vector<std::string> shown(requests.size());
  const auto results = model().generate_all(requests, [&](const GenerationPiece& piece) {
    shown.at(piece.index) += piece.text;
    return piece.index != 4;
  });
  ASSERT_EQ(results.size(), requests.size());
  for (size_t i = 0; i < 4; ++i) {
    const GenerationResult alone = model().generate(requests[i]);
    EXPECT_EQ(results[i].output_ids, alone.output_ids) << i;
    EXPECT_EQ(results[i].text, alone.text) << i;
    EXPECT_EQ(shown[i], alone.text) << i;
  }
  EXPECT_EQ(results[4].end, GenerationEnd::kCancelled);
  EXPECT_NE(results[0].output_ids, results[1].output_ids);
  EXPECT_NE(results[1].output_ids, results[2].output_ids);
  EXPECT_TRUE(model().generate_all({}).empty());
}

TEST(Generate, AnyThreadMayCall) {
  const GenerationResult expected[] = {model().generate(sampled_request(0)), model().generate(sampled_request(1))};
  std::vector<std::thread> threads;
  std::atomic<int> n_right = 0;
  for (size_t i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      const TextTokenizer tokenizer = model().tokenizer();
      const GenerationResult result = model().generate(sampled_request(i % 2));
      if (result.output_ids == expected[i % 2].output_ids && tokenizer.decode(tokenizer.encode("a")) == "a") ++n_right;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(n_right, 4);
}

TEST(Generate, ExceptionOfTheCallbackComesOut) {
  struct Mine {};
  EXPECT_THROW(model().generate(sampled_request(), [](const GenerationPiece&) -> bool { throw Mine(); }), Mine);
  EXPECT_EQ(model().generate(sampled_request()).completion_tokens, 40) << "the model goes on as before";
}

TEST(Generate, CallFromItsOwnCallbackIsRefused) {
  int n_refused = 0;
  model().generate(sampled_request(), [&](const GenerationPiece&) {
    const std::string message =
        error_of(ErrorCode::kInvalidArgument, [] { model().generate({.prompt = "x", .max_tokens = 1}); });
    EXPECT_THAT(message, HasSubstr("callback"));
    ++n_refused;
    return false;
  });
  EXPECT_EQ(n_refused, 1);
  EXPECT_EQ(model().generate(sampled_request()).completion_tokens, 40);
}

TEST(Generate, BadRequestsAreNamed) {
  const auto error_with = [](ErrorCode code, auto change) {
    GenerationRequest request = sampled_request();
    change(request);
    return error_of(code, [&] { model().generate(request); });
  };
  const auto invalid = [&](auto change) { return error_with(ErrorCode::kInvalidArgument, change); };
  using R = GenerationRequest;
  EXPECT_THAT(invalid([](R& r) { r.prompt_ids = {1}; }), HasSubstr("got 2 of prompt"));
  EXPECT_THAT(invalid([](R& r) { r.messages = {{"user", "x"}}; }), HasSubstr("got 2 of prompt"));
  EXPECT_THAT(invalid([](R& r) { r.prompt.clear(), r.messages_json = "[]"; }), HasSubstr("messages_json"));
  EXPECT_THAT(invalid([](R& r) { r.prompt.clear(), r.messages_json = "[1]"; }), HasSubstr("message"));
  EXPECT_THAT(invalid([](R& r) { r.prompt.clear(), r.messages_json = "{}"; }), HasSubstr("messages_json: got object"));
  EXPECT_THAT(invalid([](R& r) { r.prompt.clear(), r.prompt_ids = {1, 1024}; }), HasSubstr("1024"));
  EXPECT_THAT(invalid([](R& r) { r.tools_json = "x"; }), HasSubstr("tools_json"));
  EXPECT_THAT(invalid([](R& r) { r.template_args_json = "3"; }), HasSubstr("template_args_json"));
  EXPECT_THAT(invalid([](R& r) { r.now = "noon"; }), HasSubstr("noon"));
  EXPECT_THAT(invalid([](R& r) { r.max_tokens = -1; }), HasSubstr("max_tokens: got -1"));
  EXPECT_THAT(invalid([](R& r) { r.thinking_budget = -2; }), HasSubstr("thinking_budget: got -2"));
  EXPECT_THAT(invalid([](R& r) { r.n_logprobs = 21; }), HasSubstr("n_logprobs: got 21"));
  EXPECT_THAT(invalid([](R& r) { r.loop_guard = static_cast<LoopGuard>(9); }), HasSubstr("loop_guard: got 9"));
  EXPECT_THAT(invalid([](R& r) { r.sampling.temperature = -1; }), HasSubstr("temperature"));
  EXPECT_THAT(invalid([](R& r) { r.sampling.top_p = 2; }), HasSubstr("top_p"));
  EXPECT_THAT(invalid([](R& r) { r.sampling.logit_bias = {{5000, 1.0}}; }), HasSubstr("5000"));
  EXPECT_THAT(error_with(ErrorCode::kContextExceeded,
                         [](R& r) { r.prompt.clear(), r.prompt_ids = std::vector<int32_t>(2049, 5); }),
              HasSubstr("2049"));
  EXPECT_EQ(model().generate(sampled_request()).completion_tokens, 40);
}

TEST(Log, CallbackGetsTheMessages) {
  std::vector<std::pair<LogSeverity, std::string>> seen;
  set_log_callback([&](LogSeverity severity, std::string_view text) { seen.emplace_back(severity, text); });
  log_warning("one {}", 1);
  log_debug("two");
  set_log_callback({});
  log_warning("dropped");
  EXPECT_THAT(seen, ElementsAre(std::pair(LogSeverity::kWarning, std::string("one 1")),
                                std::pair(LogSeverity::kDebug, std::string("two"))));
}

TEST(Version, MacrosAgree) {
  EXPECT_STREQ(version(), MOBILELLM_VERSION_STRING);
  EXPECT_EQ(std::to_string(MOBILELLM_VERSION_MAJOR) + "." + std::to_string(MOBILELLM_VERSION_MINOR) + "." +
                std::to_string(MOBILELLM_VERSION_PATCH),
            MOBILELLM_VERSION_STRING);
}

}  // namespace
}  // namespace mobilellm
