/// Text in, text out: a loaded model with its tokenizer, template and engine, shared by command line, server,
/// evaluation and the public API.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "backend/backend.h"
#include "base/json.h"
#include "chat/parsers/reasoning.h"
#include "chat/template.h"
#include "engine/engine.h"
#include "engine/request.h"
#include "model/loader.h"

namespace mobilellm {

/// The system text of `final_only` when the caller gives none.
inline constexpr const char* kFinalOnlySystem =
    "You are a helpful assistant. Do not reveal your reasoning. Respond with only the final answer enclosed in "
    "\\boxed{...}.";

enum class LoopGuardMode : uint8_t {
  kAuto,  ///< On when decoding is greedy and the output may be long (no max_tokens, or more than 256).
  kOn,
  kOff,
};

/// One generation. Give either messages or prompt.
struct GenerateRequest {
  /// Array of {"role", "content", ...}; null or empty = `prompt` is used.
  Json messages;
  /// With the chat template: the text of one user message. Without: the raw text, BOS put in front.
  std::string prompt;
  /// When set, these ids are the prompt and nothing else of the prompt part applies.
  std::vector<int32_t> prompt_ids;

  bool use_chat_template = true;      ///< Applied exactly when the model has one, too.
  std::optional<std::string> system;  ///< Only with the template; replaces a system message in `messages`.
  bool final_only = false;            ///< Without any system text, with the template: kFinalOnlySystem.
  Json tools;                         ///< For the template; null = none.
  Json template_kwargs;          ///< Further variables of the template (an object), e.g. {"enable_thinking": false}.
  std::optional<WallClock> now;  ///< What strftime_now shows; the machine's clock when absent.
  /// Beginning of the answer, put behind the generation prompt. Not part of the result's text, but a box that it opens
  /// is found.
  std::string prefill_response;

  SamplingParams sampling;
  std::optional<int64_t> max_tokens;  ///< Absent = up to the context end; counts reasoning too.
  std::vector<std::string> stop;      ///< Never shown; empty ones are ignored.
  bool ignore_eos = false;
  std::vector<int32_t> extra_eos_ids;  ///< Besides those of the model.
  bool stop_at_boxed = false;          ///< End right after the brace that closes a \boxed{...} (see BoxedStop).
  /// Most tokens of reasoning; -1 = no bound. At the bound the model is led to its answer (see ThinkingBudget).
  int64_t thinking_budget = -1;
  LoopGuardMode loop_guard = LoopGuardMode::kAuto;
  /// False: everything goes to the answer channel, tags included.
  bool split_reasoning = true;
  std::optional<int> n_logprobs;              ///< 0 .. 20, see Request::n_logprobs.
  uint64_t stream = 0;                        ///< Number of this sample; other samples of one seed use other numbers.
  const std::atomic<bool>* cancel = nullptr;  ///< Looked at before every step; true ends with kCancelled.
};

enum class TextChannel : uint8_t { kReasoning, kAnswer };

/// Whole UTF-8 characters that are certain to be part of the output.
struct TextPiece {
  size_t index = 0;  ///< Which request of generate_all.
  TextChannel channel = TextChannel::kAnswer;
  std::string_view text;
};
/// Return false to cancel. Called from the thread that called generate.
using TextCallback = std::function<bool(const TextPiece&)>;

/// What exactly ended a generation.
enum class StopDetail : uint8_t {
  kNone,            ///< Cancelled.
  kEos,             ///< An end-of-sequence token.
  kStopString,      ///< GenerateResult::stop_string was seen.
  kBoxed,           ///< A boxed answer was complete.
  kThinkingBudget,  ///< The budget was used up with a complete boxed answer at hand.
  kMaxTokens,
  kContextEnd,
  kAnswerBound,  ///< The answer that was led to did not end within its own bound.
  kLoop,         ///< The output repeated itself and was cut off there.
};
const char* to_string(StopDetail detail);

struct GenerateLogprob {
  int32_t token = -1;
  std::optional<double> logprob;  ///< Absent for a forced token.
  std::vector<TokenLogprob> top;
};

struct GenerateTimings {
  double prompt_seconds = 0;  ///< From the start to the first token: time to first token.
  double decode_seconds = 0;  ///< From the first token to the last.
  double prompt_tokens_per_second = 0;
  double tokens_per_second = 0;
};

struct GenerateResult {
  std::string text;       ///< Everything generated, tags included, stop string and end-of-sequence text excluded.
  std::string reasoning;  ///< Empty for models without think tags.
  std::string answer;     ///< For models without think tags: all of the text.
  std::optional<std::string> boxed;  ///< Content of the last complete box that is not a placeholder echo.
  FinishReason finish_reason = FinishReason::kNone;  ///< kStop, kLength, kLoop or kCancelled.
  StopDetail stop_detail = StopDetail::kNone;
  std::string stop_string;
  int64_t prompt_tokens = 0;
  int64_t completion_tokens = 0;  ///< Generated and forced, a final eos included.
  int64_t reasoning_tokens = 0;   ///< Those inside the reasoning part.
  int64_t forced_tokens = 0;      ///< Those put in by the thinking budget or the loop guard.
  std::vector<int32_t> output_ids;
  std::vector<GenerateLogprob> logprobs;  ///< When asked for; one per output id.
  GenerateTimings timings;
};

/// A prompt as the model will see it.
struct Prompt {
  std::string text;  ///< Rendered text with the prefill; for ids given as such, their decoded text.
  std::vector<int32_t> ids;
  bool used_template = false;
  ReasoningConvention reasoning = ReasoningConvention::kNone;
  bool starts_inside_reasoning = false;
};

struct TextModelOptions {
  std::string backend = "cpu";
  int n_threads = 0;  ///< 0 = every core this process may use.
  KvDtype kv_dtype = KvDtype::kAuto;
  int64_t context = 0;    ///< 0 = the model's maximum.
  bool is_exact = false;  ///< See RunnerOptions.
  /// Called with progress in [0, 1] while loading; return false to cancel (kCancelled).
  std::function<bool(double)> on_progress;
  int prefill_chunk = 256;    ///< Does not change results.
  int64_t max_kv_tokens = 0;  ///< See EngineOptions.
  SpeculationOptions speculation = {.mode = SpeculationMode::kAuto};
  /// Path of a smaller model with the same tokenizer, whose guesses speed this one up; empty = none. load() only.
  std::string draft_model;
};

/// Owns weights, tokenizer, template, runner and engine. generate and generate_all may be called from any thread; calls
/// wait for each other. The const members may be used meanwhile.
class TextModel {
 public:
  /// Opens a folder or .gguf file (see load_model). Throws what the loaders throw.
  static std::unique_ptr<TextModel> load(const std::string& path, const TextModelOptions& options = {});
  /// From parts; `model.weights` is not used. For tests and for callers that make their own runner.
  TextModel(LoadedModel model, std::unique_ptr<Runner> runner, const TextModelOptions& options);
  ~TextModel();
  TextModel(const TextModel&) = delete;
  TextModel& operator=(const TextModel&) = delete;

  const std::string& path() const;
  const std::string& format() const;
  const ModelSpec& spec() const;
  const GenerationDefaults& defaults() const;
  bool has_tokenizer() const;
  const Tokenizer& tokenizer() const;         ///< Throws kNotFound when the model came without one.
  const ChatTemplate* chat_template() const;  ///< Null when there is none.
  const std::string& bos_token() const;       ///< Text for the template; may be empty.
  const std::string& eos_token() const;
  int64_t context_limit() const;
  /// Over the life of this object. Not while a call runs.
  EngineStats stats() const;
  /// KV cache bytes of one token.
  size_t kv_bytes_per_token() const;

  /// The prompt of a request, without running it. Throws kTemplate, kInvalidArgument.
  Prompt build_prompt(const GenerateRequest& request) const;

  /// Throws kContextExceeded before any work when the prompt does not fit, kInvalidArgument, kTemplate.
  GenerateResult generate(const GenerateRequest& request, const TextCallback& on_text = {});
  /// Several at once in shared batches; each result equals that of generate alone. Returning false from the callback
  /// cancels the request of that piece only. Requests with equal prompts next to each other share one prefill.
  std::vector<GenerateResult> generate_all(std::span<const GenerateRequest> requests, const TextCallback& on_text = {});

  /// Direct access for scoring and verification; not to be mixed with a running generate.
  Runner& runner();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace mobilellm
