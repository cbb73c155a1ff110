/// What a caller asks of a model, and what comes back.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mobilellm/chat.h"

namespace mobilellm {

/// How the next token is chosen. By default every rule is off and decoding is greedy.
/// Order: logit_bias, penalties, temperature, then the filters. Values outside their range are kInvalidArgument.
struct SamplingOptions {
  double temperature = 0;         ///< >= 0; 0 = greedy: the most likely token.
  int64_t top_k = 0;              ///< The k most likely tokens; 0 or -1 = off.
  double top_p = 1;               ///< The most likely tokens up to this mass, in (0, 1]; 1 = off.
  double min_p = 0;               ///< Tokens of at least min_p * the top probability, in [0, 1]; 0 = off.
  double repetition_penalty = 1;  ///< > 0; above 1 makes tokens already generated less likely; 1 = off.
  double frequency_penalty = 0;   ///< Taken from a logit per earlier use in the output, in [-2, 2].
  double presence_penalty = 0;    ///< Taken from a logit once it was used in the output, in [-2, 2].
  bool penalize_prompt = false;   ///< repetition_penalty counts tokens of the prompt, too.
  /// Token id and what is added to its logit; -100 or less bans the token.
  std::vector<std::pair<int32_t, double>> logit_bias = {};
  /// The same seed gives the same output, whatever else runs at the same time and on any number of threads.
  uint64_t seed = 0;
};

enum class LoopGuard {
  kAuto,  ///< On when decoding is greedy and the output may be long.
  kOn,
  kOff,
};

/// One generation. Give one of prompt, messages, messages_json and prompt_ids.
struct GenerationRequest {
  /// With the chat template, the text of one user message. Without, the raw text, BOS put in front.
  std::string prompt = {};
  std::vector<ChatMessage> messages = {};
  std::string messages_json = {};        ///< JSON array of message objects, for those with more than role and content.
  std::vector<int32_t> prompt_ids = {};  ///< The whole prompt as token ids.

  bool use_chat_template = true;           ///< The template is applied when this is set and the model has one.
  std::optional<std::string> system = {};  ///< Only with the template; replaces the system message of `messages`.
  bool final_only = false;                 ///< Ask for the boxed answer alone, when there is no system text.
  std::string tools_json = {};             ///< See RenderOptions.
  std::string template_args_json = {};     ///< See RenderOptions.
  std::string now = {};                    ///< See RenderOptions.
  std::string prefill_response = {};       ///< Beginning of the answer; not part of the result's text.

  SamplingOptions sampling = {};
  std::optional<int64_t> max_tokens = {};  ///< >= 0, reasoning included; absent = up to the context end.
  std::vector<std::string> stop = {};  ///< End before any of these texts; they are not shown. Empty ones are ignored.
  bool ignore_eos = false;             ///< Go on after an end-of-sequence token.
  std::vector<int32_t> extra_eos_ids = {};
  bool stop_at_boxed = false;    ///< End right after the brace that closes a \boxed{...}.
  int64_t thinking_budget = -1;  ///< Most tokens of reasoning; then the model is led to its answer. -1 = no bound.
  LoopGuard loop_guard = LoopGuard::kAuto;  ///< End an output that repeats itself.
  bool split_reasoning = true;              ///< False: all text is answer, think tags included.
  std::optional<int> n_logprobs = {};       ///< Log-probabilities of each token and of the n most likely, 0 .. 20.
  uint64_t sample = 0;                      ///< Number of this sample; samples of one seed differ by it.
  /// Looked at before every step; true ends the request with kCancelled. Any thread may set it. Not owned: it must
  /// outlive the call.
  const std::atomic<bool>* cancel = nullptr;
};

/// A prompt as the model will see it.
struct PromptPreview {
  std::string text = {};
  std::vector<int32_t> ids = {};
  bool used_template = false;
};

/// Text that is certain to be part of the output, in whole UTF-8 characters; never empty.
/// The pieces of one request joined are the result's reasoning and answer. `text` is valid during the callback only.
struct GenerationPiece {
  size_t index = 0;           ///< Which request of generate_all; 0 for generate.
  bool is_reasoning = false;  ///< Inside of think tags.
  std::string_view text = {};
};
/// Return true to go on and false to cancel the request of this piece, which then ends with kCancelled and the text so
/// far. Called from the thread that called generate. Calling generate of the same model from it is kInvalidArgument. An
/// exception from it ends the whole call and comes out of generate.
using PieceCallback = std::function<bool(const GenerationPiece&)>;

/// How a generation ended; `to_string` gives the names used by hosted APIs.
enum class GenerationEnd {
  kStop = 1,       ///< The model or a stop rule ended it.
  kLength = 2,     ///< max_tokens or the context end.
  kCancelled = 3,  ///< By the callback or the cancel flag.
  kLoop = 4,       ///< The output repeated itself.
};

/// What exactly ended it.
enum class GenerationCause {
  kNone = 0,            ///< Cancelled.
  kEos = 1,             ///< An end-of-sequence token.
  kStopString = 2,      ///< GenerationResult::stop_string.
  kBoxed = 3,           ///< A boxed answer was complete (stop_at_boxed).
  kThinkingBudget = 4,  ///< The budget was used up with a complete boxed answer at hand.
  kMaxTokens = 5,
  kContextEnd = 6,
  kAnswerBound = 7,  ///< The answer that was led to did not end within its own bound.
  kLoop = 8,
};

/// "stop", "length", "cancelled" or "loop".
MOBILELLM_API const char* to_string(GenerationEnd end) noexcept;
/// "none", "eos", "stop_string", "boxed", "thinking_budget", "max_tokens", "context_end", "answer_bound" or "loop".
MOBILELLM_API const char* to_string(GenerationCause cause) noexcept;

/// Natural logarithm of a token's probability under the model itself, before penalties and temperature.
struct TokenProbability {
  int32_t id = -1;
  double logprob = 0;
};

struct TokenReport {
  int32_t id = -1;
  std::optional<double> logprob = {};      ///< Absent for a token that the thinking budget or the loop guard put in.
  std::vector<TokenProbability> top = {};  ///< n_logprobs of them, the most likely first.
};

struct GenerationResult {
  std::string text = {};                  ///< Everything generated, think tags included, stop string and eos excluded.
  std::string reasoning = {};             ///< What stood inside of think tags.
  std::string answer = {};                ///< The rest; all of the text for models without think tags.
  std::optional<std::string> boxed = {};  ///< Content of the last complete \boxed{...} that is no placeholder.
  GenerationEnd end = GenerationEnd::kStop;
  GenerationCause cause = GenerationCause::kNone;
  std::string stop_string = {};
  int64_t prompt_tokens = 0;
  int64_t completion_tokens = 0;  ///< output_ids.size().
  int64_t reasoning_tokens = 0;   ///< Those of them inside of the reasoning.
  int64_t forced_tokens = 0;      ///< Those of them put in by the thinking budget or the loop guard.
  std::vector<int32_t> output_ids = {};
  std::vector<TokenReport> logprobs = {};  ///< One per output id when n_logprobs was set, else empty.
  double prompt_seconds = 0;               ///< From the start to the first token.
  double decode_seconds = 0;               ///< From the first token to the last.
};

}  // namespace mobilellm
