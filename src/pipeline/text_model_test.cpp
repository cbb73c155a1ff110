// Generation from end to end on the fake runner: what is shown, where it is cut, how it ends, how it is led.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>

#include "backend/fake/fake_runner.h"
#include "base/error.h"
#include "base/utf8.h"
#include "pipeline/draft_model.h"
#include "pipeline/loop_guard.h"
#include "pipeline/pipeline.h"
#include "pipeline/thinking_budget.h"

namespace mobilellm {
namespace {

// One token per byte, and some of several bytes: special ones, think tags, and a brace with text behind it.
std::string tokenizer_json() {
  Json vocab = Json::object();
  int n_mapped = 0;
  for (int byte = 0; byte < 256; ++byte) {
    // GPT-2's mapping of bytes to printable characters.
    const bool is_plain = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    std::string text;
    append_utf8(text, static_cast<char32_t>(is_plain ? byte : 256 + n_mapped++));
    vocab.set(text, byte);
  }
  Json added = Json::array();
  int id = 256;
  const auto add = [&](const char* text, bool is_special) {
    added.push(Json::object()
                   .set("id", id++)
                   .set("content", text)
                   .set("single_word", false)
                   .set("lstrip", false)
                   .set("rstrip", false)
                   .set("normalized", false)
                   .set("special", is_special));
  };
  add("<|bos|>", true);
  add("<|eos|>", true);
  add("<|user|>", true);
  add("<think>", false);
  add("</think>", false);
  add("} is it. ", false);
  const Json byte_level = Json::object()
                              .set("type", "ByteLevel")
                              .set("add_prefix_space", false)
                              .set("trim_offsets", true)
                              .set("use_regex", true);
  const Json model = Json::object().set("type", "BPE").set("vocab", vocab).set("merges", Json::array());
  return Json::object()
      .set("version", "1.0")
      .set("added_tokens", added)
      .set("normalizer", Json())
      .set("pre_tokenizer", byte_level)
      .set("post_processor", Json())
      .set("decoder", byte_level)
      .set("model", model)
      .dump();
}

constexpr int32_t kEos = 257;

// Every test runs twice: token by token, and with a draft model whose guesses are always right, so that whatever acts
// between tokens has more of them behind it.
class TextModelTest : public ::testing::TestWithParam<bool> {
 protected:
  // The model says `plan`; once the forced text `lead` is in its output, it says `after_lead` behind it. Then eos.
  void make_model(const std::string& plan, const std::string& lead = "", const std::string& after_lead = "",
                  const TextModelOptions& options = {}, const std::string& chat_template = "") {
    LoadedModel parts;
    parts.path = "test";
    if (!chat_template.empty()) parts.chat_template = ChatTemplate::parse(chat_template, "test");
    parts.tokenizer = load_tokenizer_json_text(tokenizer_json(), "test");
    auto runner =
        std::make_unique<FakeRunner>(FakeRunnerOptions{.vocab_size = 262, .max_context = 6000, .eos_ids = {kEos}});
    runner_ = runner.get();
    parts.spec = runner->spec();
    const auto encode = [&](const std::string& text) { return parts.tokenizer->encode(text); };
    plan_ = encode(plan);
    draft_runner_ = std::make_unique<FakeRunner>(FakeRunnerOptions{.vocab_size = 262, .max_context = 6000});
    set_script([this, first = plan_, lead_ids = encode(lead),
                second = encode(after_lead)](std::span<const int32_t> history) -> std::optional<int32_t> {
      const auto out = history.subspan(n_prompt_);
      const std::vector<int32_t>* source = &first;
      size_t at = out.size();
      if (!lead_ids.empty()) {
        const auto found = std::search(out.begin(), out.end(), lead_ids.begin(), lead_ids.end());
        if (found != out.end()) {
          source = &second;
          at = static_cast<size_t>(out.end() - found) - lead_ids.size();
        }
      }
      return at < source->size() ? (*source)[at] : kEos;
    });
    TextModelOptions with_guesses = options;
    with_guesses.speculation = {.mode = SpeculationMode::kOff};
    if (GetParam()) {
      with_guesses.speculation = {.mode = SpeculationMode::kAuto, .is_eager = true, .draft_model = draft_runner_.get()};
    }
    model_ = std::make_unique<TextModel>(std::move(parts), std::move(runner), with_guesses);
  }

  void set_script(const FakeRunner::Script& script) {
    runner_->set_script(script);
    draft_runner_->set_script(script);
  }

  GenerateResult generate(GenerateRequest request = {}) {
    if (request.prompt.empty()) request.prompt = "Q";
    n_prompt_ = model_->build_prompt(request).ids.size();
    shown_.clear();
    reasoning_.clear();
    answer_.clear();
    return model_->generate(request, [this](const TextPiece& piece) {
      EXPECT_TRUE(is_valid_utf8(piece.text));
      EXPECT_FALSE(piece.text.empty());
      (piece.channel == TextChannel::kReasoning ? reasoning_ : answer_) += piece.text;
      shown_.emplace_back(piece.text);
      return shown_.size() < cancel_after_;
    });
  }

  FakeRunner* runner_ = nullptr;
  std::unique_ptr<FakeRunner> draft_runner_;
  std::unique_ptr<TextModel> model_;
  std::vector<int32_t> plan_;
  size_t n_prompt_ = 0;
  size_t cancel_after_ = SIZE_MAX;
  std::vector<std::string> shown_;
  std::string reasoning_, answer_;
};

INSTANTIATE_TEST_SUITE_P(Guesses, TextModelTest, ::testing::Values(false, true),
                         [](const auto& tested) { return tested.param ? "many" : "none"; });

TEST_P(TextModelTest, StreamsTheTextAndStopsAtEosWithoutShowingIt) {
  make_model("Hello, w\xC3\xB6rld \xF0\x9F\x98\x80!");
  const auto result = generate();
  EXPECT_EQ(result.text, "Hello, w\xC3\xB6rld \xF0\x9F\x98\x80!");
  EXPECT_EQ(answer_, result.text);
  EXPECT_EQ(result.answer, result.text);
  EXPECT_EQ(result.reasoning, "");
  EXPECT_EQ(result.finish_reason, FinishReason::kStop);
  EXPECT_EQ(result.stop_detail, StopDetail::kEos);
  EXPECT_EQ(result.prompt_tokens, 1);
  EXPECT_EQ(result.completion_tokens, static_cast<int64_t>(plan_.size()) + 1);
  EXPECT_EQ(result.output_ids.back(), kEos);
  EXPECT_FALSE(result.boxed.has_value());
  EXPECT_GT(result.timings.tokens_per_second, 0);
  EXPECT_GT(result.timings.prompt_tokens_per_second, 0);
}

TEST_P(TextModelTest, UnfinishedCharacterAtTheEndBecomesReplacement) {
  make_model("abc\xF0\x9F\x98\x80");
  GenerateRequest request;
  request.max_tokens = 5;  // Two of four bytes.
  const auto result = generate(request);
  EXPECT_EQ(result.text, "abc\xEF\xBF\xBD");
  EXPECT_EQ(result.finish_reason, FinishReason::kLength);
  EXPECT_EQ(result.stop_detail, StopDetail::kMaxTokens);
}

TEST_P(TextModelTest, IgnoredEosIsNotShown) {
  make_model("ab<|eos|>cd");
  GenerateRequest request;
  request.ignore_eos = true;
  request.max_tokens = 8;
  const auto result = generate(request);
  EXPECT_EQ(result.text, "abcd");
  EXPECT_EQ(result.completion_tokens, 8);
  request.ignore_eos = false;
  EXPECT_EQ(generate(request).text, "ab");
}

TEST_P(TextModelTest, ExtraEosIdsStop) {
  make_model("ab<|user|>cd");
  GenerateRequest request;
  request.extra_eos_ids = {258};
  const auto result = generate(request);
  EXPECT_EQ(result.text, "ab");
  EXPECT_EQ(result.stop_detail, StopDetail::kEos);
}

TEST_P(TextModelTest, StopStringIsCutAcrossTokens) {
  make_model("One. STOP two");
  GenerateRequest request;
  request.stop = {"", "STOP", "never"};
  const auto result = generate(request);
  EXPECT_EQ(result.text, "One. ");
  EXPECT_EQ(answer_, "One. ");
  EXPECT_EQ(result.finish_reason, FinishReason::kStop);
  EXPECT_EQ(result.stop_detail, StopDetail::kStopString);
  EXPECT_EQ(result.stop_string, "STOP");
}

TEST_P(TextModelTest, BeginningOfAStopStringIsShownWhenItGoesOnOtherwise) {
  make_model("a STO b ST");
  GenerateRequest request;
  request.stop = {"STOP"};
  EXPECT_EQ(generate(request).text, "a STO b ST");
  EXPECT_EQ(answer_, "a STO b ST");
}

TEST_P(TextModelTest, StopAtBoxedCutsBehindTheBraceInsideAToken) {
  make_model("So \\boxed{\\frac{1}{2}} is it. More");
  GenerateRequest request;
  request.stop_at_boxed = true;
  const auto result = generate(request);
  EXPECT_EQ(result.text, "So \\boxed{\\frac{1}{2}}");
  EXPECT_EQ(answer_, result.text);
  EXPECT_EQ(result.boxed, "\\frac{1}{2}");
  EXPECT_EQ(result.finish_reason, FinishReason::kStop);
  EXPECT_EQ(result.stop_detail, StopDetail::kBoxed);
  EXPECT_EQ(result.output_ids.back(), 261) << "the brace shares its token";
}

TEST_P(TextModelTest, StopAtBoxedPassesPlaceholders) {
  make_model("Put it in \\boxed{} or \\boxed{...} or \\boxed{.}: \\boxed{7} yes");
  GenerateRequest request;
  request.stop_at_boxed = true;
  const auto result = generate(request);
  EXPECT_EQ(result.text, "Put it in \\boxed{} or \\boxed{...} or \\boxed{.}: \\boxed{7}");
  EXPECT_EQ(result.boxed, "7");
}

TEST_P(TextModelTest, WithoutTheOptionTheLastBoxIsTheAnswer) {
  make_model("\\boxed{1} then \\boxed{2} end");
  const auto result = generate();
  EXPECT_EQ(result.boxed, "2");
  EXPECT_EQ(result.text, "\\boxed{1} then \\boxed{2} end");
}

TEST_P(TextModelTest, StopStringInsideTheBoxWins) {
  make_model("\\boxed{7} end");
  GenerateRequest request;
  request.stop_at_boxed = true;
  request.stop = {"}"};
  const auto result = generate(request);
  EXPECT_EQ(result.text, "\\boxed{7");
  EXPECT_EQ(result.stop_detail, StopDetail::kStopString);
  EXPECT_FALSE(result.boxed.has_value());
}

TEST_P(TextModelTest, HeldBackBraceOfABoxIsShown) {
  make_model("\\boxed{7} end");
  GenerateRequest request;
  request.stop_at_boxed = true;
  request.stop = {"} is"};
  const auto result = generate(request);
  EXPECT_EQ(result.text, "\\boxed{7}");
  EXPECT_EQ(answer_, result.text);
}

TEST_P(TextModelTest, PrefillMayOpenTheBox) {
  make_model("42} more");
  GenerateRequest request;
  request.prefill_response = "The answer is \\boxed{";
  request.stop_at_boxed = true;
  const auto result = generate(request);
  EXPECT_EQ(result.text, "42}");
  EXPECT_EQ(result.boxed, "42");
}

TEST_P(TextModelTest, ThinkTagsSplitTheText) {
  make_model("Let me see \\boxed{1}.\n</think>\n\nIt is \\boxed{2}. Bye");
  GenerateRequest request;
  request.prompt = "Q<think>\n";
  request.stop_at_boxed = true;
  auto result = generate(request);
  EXPECT_EQ(result.reasoning, "Let me see \\boxed{1}.");
  EXPECT_EQ(result.answer, "It is \\boxed{2}") << "a box inside the reasoning does not stop";
  EXPECT_EQ(reasoning_, result.reasoning);
  EXPECT_EQ(answer_, result.answer);
  EXPECT_EQ(result.boxed, "2");
  EXPECT_EQ(result.stop_detail, StopDetail::kBoxed);
  EXPECT_EQ(result.reasoning_tokens, 23);
  request.split_reasoning = false;
  result = generate(request);
  EXPECT_EQ(answer_, "Let me see \\boxed{1}.\n</think>\n\nIt is \\boxed{2}");
  EXPECT_EQ(reasoning_, "");
}

TEST_P(TextModelTest, UnclosedBoxInTheReasoningDoesNotHideTheAnswer) {
  make_model("Maybe \\boxed{1 or so.</think>It is \\boxed{2}. Bye");
  GenerateRequest request;
  request.prompt = "Q<think>\n";
  request.stop_at_boxed = true;
  EXPECT_EQ(generate(request).answer, "It is \\boxed{2}");
}

TEST_P(TextModelTest, LimitInsideTheReasoningIsLengthWithAnEmptyAnswer) {
  make_model("thinking and thinking");
  GenerateRequest request;
  request.prompt = "Q<think>\n";
  request.max_tokens = 8;
  const auto result = generate(request);
  EXPECT_EQ(result.reasoning, "thinking");
  EXPECT_EQ(result.answer, "");
  EXPECT_EQ(result.finish_reason, FinishReason::kLength);
}

TEST_P(TextModelTest, BudgetClosesTheTag) {
  const std::string lead = lead_to_answer(ReasoningConvention::kThinkTags, true, true);
  make_model("I think and think and think", lead, "It is 4.");
  GenerateRequest request;
  request.prompt = "Q<think>\n";
  request.thinking_budget = 7;
  const auto result = generate(request);
  EXPECT_EQ(result.text, "I think" + lead + "It is 4.");
  EXPECT_EQ(result.answer, "It is 4.");
  EXPECT_TRUE(result.reasoning.starts_with("I think\n\n")) << result.reasoning;
  EXPECT_EQ(result.finish_reason, FinishReason::kStop);
  EXPECT_EQ(result.stop_detail, StopDetail::kEos);
  EXPECT_EQ(result.forced_tokens, static_cast<int64_t>(model_->tokenizer().encode(lead).size()));
}

TEST_P(TextModelTest, BudgetLetsAShorterReasoningAlone) {
  make_model("short</think>The answer is long enough to pass the budget.");
  GenerateRequest request;
  request.prompt = "Q<think>\n";
  request.thinking_budget = 10;
  const auto result = generate(request);
  EXPECT_EQ(result.answer, "The answer is long enough to pass the budget.");
  EXPECT_EQ(result.forced_tokens, 0);
}

TEST_P(TextModelTest, BudgetWaitsForTheCharacter) {
  const std::string lead = lead_to_answer(ReasoningConvention::kThinkTags, true, true);
  make_model("ab\xF0\x9F\x98\x80 more", lead, "ok");
  GenerateRequest request;
  request.prompt = "Q<think>\n";
  request.thinking_budget = 3;
  EXPECT_EQ(generate(request).text, "ab\xF0\x9F\x98\x80" + lead + "ok");
}

TEST_P(TextModelTest, BytesThatNeverBecomeACharacterDoNotHoldTheBudgetUp) {
  const std::string lead = lead_to_answer(ReasoningConvention::kThinkTags, true, true);
  make_model("", lead, "ok");
  const auto lead_ids = model_->tokenizer().encode(lead);
  set_script([&, this](std::span<const int32_t> history) -> std::optional<int32_t> {
    const auto out = history.subspan(n_prompt_);
    const bool is_led = std::search(out.begin(), out.end(), lead_ids.begin(), lead_ids.end()) != out.end();
    return is_led ? kEos : 0xE9;  // First byte of three, again and again.
  });
  GenerateRequest request;
  request.prompt = "Q<think>\n";
  request.thinking_budget = 10;
  request.max_tokens = 100;
  const auto result = generate(request);
  EXPECT_EQ(result.stop_detail, StopDetail::kEos);
  EXPECT_EQ(result.reasoning_tokens, static_cast<int64_t>(10 + 3 + lead_ids.size() - 2)) << "but two line breaks";
}

TEST_P(TextModelTest, BudgetZeroAnswersAtOnce) {
  const std::string lead = lead_to_answer(ReasoningConvention::kThinkTags, true, false);
  make_model("never", lead, "Now.");
  GenerateRequest request;
  request.prompt = "Q<think>\n";
  request.thinking_budget = 0;
  const auto result = generate(request);
  EXPECT_EQ(result.reasoning, "");
  EXPECT_EQ(result.answer, "Now.");
}

TEST_P(TextModelTest, BudgetZeroAddsNothingWhenTheTemplateClosedTheReasoning) {
  make_model("Now.", "", "", {}, "{{ messages[0].content }}<think>\n\n</think>\n\n");
  GenerateRequest request;
  request.thinking_budget = 0;
  const auto result = generate(request);
  EXPECT_EQ(result.answer, "Now.");
  EXPECT_EQ(result.forced_tokens, 0);
}

TEST_P(TextModelTest, BudgetZeroOpensAndClosesWhereTheModelWould) {
  const std::string lead = lead_to_answer(ReasoningConvention::kThinkTags, false, false);
  make_model("<think>never", lead, "Now.", {}, "{{ messages[0].content }}{# <think> #}");
  GenerateRequest request;
  request.thinking_budget = 0;
  const auto result = generate(request);
  EXPECT_EQ(result.text, lead + "Now.");
  EXPECT_EQ(result.reasoning, "");
  EXPECT_EQ(result.answer, "Now.");
}

TEST_P(TextModelTest, BudgetCountsBehindTheTagThatTheModelOpens) {
  const std::string lead = lead_to_answer(ReasoningConvention::kThinkTags, true, true);
  make_model("<think>123456789", lead, "Now.", {}, "{{ messages[0].content }}{# <think> #}");
  GenerateRequest request;
  request.thinking_budget = 4;
  EXPECT_EQ(generate(request).text, "<think>1234" + lead + "Now.");
}

TEST_P(TextModelTest, BudgetWithoutTagsLeadsToTheBox) {
  const std::string lead = lead_to_answer(ReasoningConvention::kNone, false, true);
  make_model("I count and count and count", lead, "12} is it. And so on");
  GenerateRequest request;
  request.thinking_budget = 7;
  const auto result = generate(request);
  EXPECT_EQ(result.text, "I count" + lead + "12}");
  EXPECT_EQ(result.boxed, "12");
  EXPECT_EQ(result.finish_reason, FinishReason::kStop);
  EXPECT_EQ(result.stop_detail, StopDetail::kBoxed);
}

TEST_P(TextModelTest, BudgetWithoutTagsBoundsTheLedAnswer) {
  const std::string lead = lead_to_answer(ReasoningConvention::kNone, false, true);
  std::string numbers;
  for (int i = 0; i < 200; ++i) numbers += std::to_string(i) + ",";
  make_model("I count and count", lead, numbers);
  GenerateRequest request;
  request.thinking_budget = 7;
  const auto result = generate(request);
  EXPECT_EQ(result.text, "I count" + lead + numbers.substr(0, static_cast<size_t>(kMaxLedBoxTokens)));
  EXPECT_EQ(result.finish_reason, FinishReason::kLength);
  EXPECT_EQ(result.stop_detail, StopDetail::kAnswerBound);
}

TEST_P(TextModelTest, BudgetWithoutTagsKeepsABoxThatIsThereOrOpen) {
  GenerateRequest request;
  request.thinking_budget = 12;
  make_model("\\boxed{5} and then some");
  auto result = generate(request);
  EXPECT_EQ(result.text, "\\boxed{5} an");
  EXPECT_EQ(result.boxed, "5");
  EXPECT_EQ(result.stop_detail, StopDetail::kThinkingBudget);
  make_model("so \\boxed{5678} and then some");
  result = generate(request);
  EXPECT_EQ(result.text, "so \\boxed{5678}");
  EXPECT_EQ(result.stop_detail, StopDetail::kBoxed);
  EXPECT_EQ(result.forced_tokens, 0);
}

TEST_P(TextModelTest, LoopEndsTheText) {
  std::string loop;
  for (int i = 0; i < 500; ++i) loop += "again ";
  make_model("Start: " + loop);
  const auto result = generate();
  EXPECT_EQ(result.finish_reason, FinishReason::kLoop);
  EXPECT_EQ(result.stop_detail, StopDetail::kLoop);
  EXPECT_LE(result.completion_tokens, 7 + LoopGuard::kMinTokens + 6);
  EXPECT_EQ(result.forced_tokens, 0);
}

TEST_P(TextModelTest, LoopGuardIsOffWhenAskedOrShortOrSampled) {
  std::string loop;
  for (int i = 0; i < 60; ++i) loop += "again ";
  make_model(loop);
  GenerateRequest request;
  request.loop_guard = LoopGuardMode::kOff;
  EXPECT_EQ(generate(request).stop_detail, StopDetail::kEos);
  request.loop_guard = LoopGuardMode::kAuto;
  request.max_tokens = 256;
  EXPECT_EQ(generate(request).stop_detail, StopDetail::kMaxTokens);
  request.max_tokens = 257;
  EXPECT_EQ(generate(request).stop_detail, StopDetail::kLoop);
  request.sampling.temperature = 0.5;
  EXPECT_EQ(generate(request).stop_detail, StopDetail::kMaxTokens);
  request.loop_guard = LoopGuardMode::kOn;
  EXPECT_EQ(generate(request).stop_detail, StopDetail::kLoop);
}

TEST_P(TextModelTest, LoopInTheReasoningLeadsToTheAnswer) {
  std::string loop;
  for (int i = 0; i < 500; ++i) loop += "wait ";
  const std::string lead = lead_to_answer(ReasoningConvention::kThinkTags, true, true);
  make_model(loop, lead, "It is 4.");
  GenerateRequest request;
  request.prompt = "Q<think>\n";
  const auto result = generate(request);
  EXPECT_EQ(result.answer, "It is 4.");
  EXPECT_EQ(result.finish_reason, FinishReason::kLoop);
  EXPECT_EQ(result.stop_detail, StopDetail::kEos);
}

TEST_P(TextModelTest, LoopWithoutTagsLeadsToTheBoxWhenOneIsWanted) {
  std::string loop;
  for (int i = 0; i < 500; ++i) loop += "wait ";
  const std::string lead = lead_to_answer(ReasoningConvention::kNone, false, true);
  make_model(loop, lead, "4}");
  GenerateRequest request;
  request.stop_at_boxed = true;
  const auto result = generate(request);
  EXPECT_EQ(result.boxed, "4");
  EXPECT_EQ(result.finish_reason, FinishReason::kLoop);
  EXPECT_EQ(result.stop_detail, StopDetail::kBoxed);
}

TEST_P(TextModelTest, ASecondLoopEnds) {
  std::string loop;
  for (int i = 0; i < 500; ++i) loop += "wait ";
  const std::string lead = lead_to_answer(ReasoningConvention::kThinkTags, true, true);
  make_model(loop, lead, loop);
  GenerateRequest request;
  request.prompt = "Q<think>\n";
  const auto result = generate(request);
  EXPECT_EQ(result.finish_reason, FinishReason::kLoop);
  EXPECT_EQ(result.stop_detail, StopDetail::kLoop);
}

TEST_P(TextModelTest, CallbackCancels) {
  make_model("abcdefgh");
  cancel_after_ = 3;
  const auto result = generate();
  EXPECT_EQ(result.finish_reason, FinishReason::kCancelled);
  EXPECT_EQ(result.text, "abc");
  cancel_after_ = SIZE_MAX;
  EXPECT_EQ(generate().text, "abcdefgh") << "the model goes on serving";
}

TEST_P(TextModelTest, FlagCancelsBeforeWork) {
  make_model("abcdefgh");
  const std::atomic<bool> cancel = true;
  GenerateRequest request;
  request.cancel = &cancel;
  const auto result = generate(request);
  EXPECT_EQ(result.finish_reason, FinishReason::kCancelled);
  EXPECT_EQ(runner_->n_forwards(), 0);
}

TEST_P(TextModelTest, ExceptionOfTheCallbackLeavesNothingRunning) {
  make_model("abcdefgh");
  GenerateRequest request;
  request.prompt = "Q";
  n_prompt_ = 1;
  EXPECT_THROW(model_->generate(request, [](const TextPiece&) -> bool { throw std::runtime_error("mine"); }),
               std::runtime_error);
  EXPECT_EQ(generate().text, "abcdefgh");
}

TEST_P(TextModelTest, PromptBeyondTheContextIsRefused) {
  TextModelOptions options;
  options.context = 10;
  make_model("abc", "", "", options);
  GenerateRequest request;
  request.prompt = "01234567890";
  try {
    generate(request);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kContextExceeded);
  }
  EXPECT_EQ(runner_->n_forwards(), 0);
  request.prompt = "01234567";
  const auto result = generate(request);
  EXPECT_EQ(result.text, "ab");
  EXPECT_EQ(result.finish_reason, FinishReason::kLength);
  EXPECT_EQ(result.stop_detail, StopDetail::kContextEnd);
}

TEST_P(TextModelTest, BrokenModelIsAnError) {
  make_model("abc");
  runner_->break_after(0);
  EXPECT_THROW(generate(), Error);
}

TEST_P(TextModelTest, LogprobsComeOnePerToken) {
  make_model("abc");
  GenerateRequest request;
  request.n_logprobs = 2;
  const auto result = generate(request);
  ASSERT_EQ(result.logprobs.size(), 4U);
  EXPECT_EQ(result.logprobs[1].token, 'b');
  EXPECT_NEAR(*result.logprobs[1].logprob, 0, 1e-6);
  EXPECT_EQ(result.logprobs[1].top.size(), 2U);
}

TEST_P(TextModelTest, ManyAtOnceEqualEachAlone) {
  make_model("");
  set_script({});
  std::vector<GenerateRequest> requests;
  for (size_t i = 0; i < 12; ++i) {
    GenerateRequest request;
    request.prompt = i < 5 ? "the same prompt" : "prompt number " + std::to_string(i);
    request.sampling.temperature = i % 3 == 0 ? 0 : 1;
    if (i < 5) request.sampling.temperature = 1;
    request.stream = i;
    request.max_tokens = i < 5 ? 20 : static_cast<int64_t>(5 + i);
    requests.push_back(request);
  }
  std::vector<std::string> shown(requests.size());
  const auto results = model_->generate_all(requests, [&](const TextPiece& piece) {
    shown[piece.index] += piece.text;
    return piece.index != 7 || shown[7].size() < 4;
  });
  for (size_t i = 0; i < requests.size(); ++i) {
    if (i == 7) {
      EXPECT_EQ(results[i].finish_reason, FinishReason::kCancelled);
      continue;
    }
    const auto alone = model_->generate(requests[i]);
    EXPECT_EQ(results[i].output_ids, alone.output_ids) << i;
    EXPECT_EQ(results[i].text, alone.text);
    EXPECT_EQ(shown[i], alone.text);
    EXPECT_EQ(results[i].finish_reason, alone.finish_reason);
  }
}

TEST_P(TextModelTest, SamplesWithoutRoomEndWithLength) {
  make_model("abc");
  std::vector<GenerateRequest> requests(3);
  for (auto& request : requests) {
    request.prompt = "Q";
    request.max_tokens = 0;
  }
  for (const auto& result : model_->generate_all(requests)) EXPECT_EQ(result.finish_reason, FinishReason::kLength);
}

TEST_P(TextModelTest, RawPromptKeepsItsSpecialTokens) {
  make_model("abc");
  GenerateRequest request;
  request.prompt = "<|user|>hi";
  request.system = "not used without a template";
  request.final_only = true;
  const Prompt prompt = model_->build_prompt(request);
  EXPECT_EQ(prompt.ids, (std::vector<int32_t>{258, 'h', 'i'}));
  EXPECT_FALSE(prompt.used_template);
}

TEST_P(TextModelTest, BadPromptsAreRefused) {
  make_model("abc");
  GenerateRequest request;
  EXPECT_THROW(model_->build_prompt(request), Error) << "nothing to say";
  request.messages = Json::array().push(Json::object().set("role", "user").set("content", "hi"));
  EXPECT_THROW(model_->build_prompt(request), Error) << "messages without template";
  request = {};
  request.prompt_ids = {262};
  EXPECT_THROW(model_->build_prompt(request), Error);
  request.prompt = "Q";
  request.prompt_ids = {};
  request.stop.assign(100, "x");
  EXPECT_THROW(model_->generate(request), Error);
}

TEST_P(TextModelTest, GuessesSaveSteps) {
  make_model("The quick brown fox jumps over the lazy dog.");
  const auto result = generate();
  EXPECT_EQ(result.text, "The quick brown fox jumps over the lazy dog.");
  if (GetParam()) {
    EXPECT_LE(runner_->n_forwards(), 4);
    const SpeculationStats stats = model_->stats().speculation;
    EXPECT_EQ(stats.n_accepted + 1, stats.n_drafted) << "the eos at the end is guessed, but nothing needs it any more";
  } else {
    EXPECT_EQ(runner_->n_forwards(), result.completion_tokens);
  }
}

TEST(DraftModel, NeedsTheSameVocabulary) {
  LoadedModel model;
  model.spec.vocab_size = 262;
  model.tokenizer = load_tokenizer_json_text(tokenizer_json(), "test");
  LoadedModel draft_model;
  draft_model.path = "small";
  draft_model.spec.vocab_size = 263;
  const auto message = [&]() -> std::string {
    try {
      check_same_vocabulary(draft_model, model);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      return error.what();
    }
    return "";
  };
  EXPECT_NE(message().find("got 263 tokens, expected 262 (small)"), std::string::npos) << message();
  draft_model.spec.vocab_size = 262;
  std::string other = tokenizer_json();
  other.replace(other.find("<|user|>"), 8, "<|usra|>");
  draft_model.tokenizer = load_tokenizer_json_text(other, "test");
  EXPECT_NE(message().find("token 258: got '<|usra|>', expected '<|user|>' (small)"), std::string::npos) << message();
  draft_model.tokenizer = model.tokenizer;
  EXPECT_EQ(message(), "");
}

}  // namespace
}  // namespace mobilellm
