// Copies members across the border of the library.
#include "api/conversion.h"

#include <limits>
#include <utility>

#include "base/error.h"

namespace mobilellm {
namespace {

constexpr int kMaxThreads = 1024;

template <typename T>
void check_range(const char* name, T value, T min, T max) {
  if (value >= min && value <= max) return;
  fail(ErrorCode::kInvalidArgument, "[api] {}: got {}, expected {} to {}", name, value, min, max);
}

template <typename T>
void check_min(const char* name, T value, T min) {
  if (value < min) fail(ErrorCode::kInvalidArgument, "[api] {}: got {}, expected {} or more", name, value, min);
}

SamplingParams to_internal(const SamplingOptions& options) {
  SamplingParams params;
  params.temperature = options.temperature;
  params.top_k = options.top_k;
  params.top_p = options.top_p;
  params.min_p = options.min_p;
  params.repetition_penalty = options.repetition_penalty;
  params.frequency_penalty = options.frequency_penalty;
  params.presence_penalty = options.presence_penalty;
  params.penalize_prompt = options.penalize_prompt;
  params.logit_bias = options.logit_bias;
  params.seed = options.seed;
  return params;
}

LoopGuardMode to_internal(LoopGuard guard) {
  switch (guard) {
    case LoopGuard::kAuto:
      return LoopGuardMode::kAuto;
    case LoopGuard::kOn:
      return LoopGuardMode::kOn;
    case LoopGuard::kOff:
      return LoopGuardMode::kOff;
  }
  fail(ErrorCode::kInvalidArgument, "[api] loop_guard: got {}, expected 0 to 2", static_cast<int>(guard));
}

SpeculationMode to_internal(Speculation speculation) {
  switch (speculation) {
    case Speculation::kOff:
      return SpeculationMode::kOff;
    case Speculation::kLookup:
      return SpeculationMode::kLookup;
    case Speculation::kAuto:
      return SpeculationMode::kAuto;
  }
  fail(ErrorCode::kInvalidArgument, "[api] speculation: got {}, expected 0 to 2", static_cast<int>(speculation));
}

void check_one_prompt(const GenerationRequest& request) {
  const int n_prompts = (request.prompt.empty() ? 0 : 1) + (request.messages.empty() ? 0 : 1) +
                        (request.messages_json.empty() ? 0 : 1) + (request.prompt_ids.empty() ? 0 : 1);
  if (n_prompts > 1) {
    fail(ErrorCode::kInvalidArgument,
         "[api] got {} of prompt, messages, messages_json and prompt_ids, expected only one of them", n_prompts);
  }
}

GenerationEnd to_public(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return GenerationEnd::kStop;
    case FinishReason::kLength:
      return GenerationEnd::kLength;
    case FinishReason::kCancelled:
      return GenerationEnd::kCancelled;
    case FinishReason::kLoop:
      return GenerationEnd::kLoop;
    case FinishReason::kNone:
    case FinishReason::kError:
      break;
  }
  fail(ErrorCode::kInternal, "[api] a result ended with '{}'", to_string(reason));
}

GenerationCause to_public(StopDetail detail) {
  switch (detail) {
    case StopDetail::kNone:
      return GenerationCause::kNone;
    case StopDetail::kEos:
      return GenerationCause::kEos;
    case StopDetail::kStopString:
      return GenerationCause::kStopString;
    case StopDetail::kBoxed:
      return GenerationCause::kBoxed;
    case StopDetail::kThinkingBudget:
      return GenerationCause::kThinkingBudget;
    case StopDetail::kMaxTokens:
      return GenerationCause::kMaxTokens;
    case StopDetail::kContextEnd:
      return GenerationCause::kContextEnd;
    case StopDetail::kAnswerBound:
      return GenerationCause::kAnswerBound;
    case StopDetail::kLoop:
      return GenerationCause::kLoop;
  }
  fail(ErrorCode::kInternal, "[api] a result ended for the unknown cause {}", static_cast<int>(detail));
}

}  // namespace

void check_path(const std::string& path) {
  if (path.empty()) fail(ErrorCode::kInvalidArgument, "[api] path: got nothing, expected a folder or a .gguf file");
  const size_t zero = path.find('\0');
  if (zero != std::string::npos) {
    fail(ErrorCode::kInvalidArgument, "[api] path: got a zero byte at offset {} of {}, expected none", zero,
         path.substr(0, zero));
  }
}

Json parse_json_argument(std::string_view text, const char* name, JsonKind kind) {
  if (text.empty()) return {};
  Json value;
  try {
    value = Json::parse(text, name);
  } catch (const Error& error) {
    // The same trouble, but in what the caller passed and not in a file.
    throw Error(error.code() == ErrorCode::kCorruptData ? ErrorCode::kInvalidArgument : error.code(), error.what());
  }
  if (kind == JsonKind::kArray ? !value.is_array() : !value.is_object()) {
    fail(ErrorCode::kInvalidArgument, "[api] {}: got {}, expected {}", name, value.type_name(),
         kind == JsonKind::kArray ? "array" : "object");
  }
  return value;
}

Json to_json(const std::vector<ChatMessage>& messages) {
  Json result = Json::array();
  for (const ChatMessage& message : messages) {
    result.push(Json::object().set("role", message.role).set("content", message.content));
  }
  return result;
}

TextModelOptions to_internal(const ModelOptions& options) {
  check_range("n_threads", options.n_threads, 0, kMaxThreads);
  check_min("context", options.context, int64_t{0});
  check_min("max_kv_tokens", options.max_kv_tokens, int64_t{0});
  check_min("prefill_chunk", options.prefill_chunk, 1);
  check_range("max_draft", options.max_draft, 1, kMaxDraft);
  TextModelOptions result;
  result.n_threads = options.n_threads;
  result.is_exact = options.exact;
  result.context = options.context;
  result.max_kv_tokens = options.max_kv_tokens;
  result.prefill_chunk = options.prefill_chunk;
  result.on_progress = options.on_progress;
  result.speculation.mode = to_internal(options.speculation);
  result.speculation.max_draft = options.max_draft;
  if (!options.draft_model.empty()) check_path(options.draft_model);
  result.draft_model = options.draft_model;
  return result;
}

GenerateRequest to_internal(const GenerationRequest& request) {
  check_one_prompt(request);
  check_min("thinking_budget", request.thinking_budget, int64_t{-1});
  if (request.max_tokens) check_min("max_tokens", *request.max_tokens, int64_t{0});
  if (request.n_logprobs) check_range("n_logprobs", *request.n_logprobs, 0, kMaxLogprobs);

  GenerateRequest result;
  result.messages = request.messages_json.empty()
                        ? to_json(request.messages)
                        : parse_json_argument(request.messages_json, "messages_json", JsonKind::kArray);
  if (!request.messages_json.empty() && result.messages.as_array().empty()) {
    fail(ErrorCode::kInvalidArgument, "[api] messages_json: got an empty array, expected at least one message");
  }
  result.prompt = request.prompt;
  result.prompt_ids = request.prompt_ids;
  result.use_chat_template = request.use_chat_template;
  result.system = request.system;
  result.final_only = request.final_only;
  result.tools = parse_json_argument(request.tools_json, "tools_json", JsonKind::kArray);
  result.template_kwargs = parse_json_argument(request.template_args_json, "template_args_json", JsonKind::kObject);
  if (!request.now.empty()) result.now = WallClock::parse(request.now);
  result.prefill_response = request.prefill_response;
  result.sampling = to_internal(request.sampling);
  result.max_tokens = request.max_tokens;
  result.stop = request.stop;
  result.ignore_eos = request.ignore_eos;
  result.extra_eos_ids = request.extra_eos_ids;
  result.stop_at_boxed = request.stop_at_boxed;
  result.thinking_budget = request.thinking_budget;
  result.loop_guard = to_internal(request.loop_guard);
  result.split_reasoning = request.split_reasoning;
  result.n_logprobs = request.n_logprobs;
  result.stream = request.sample;
  result.cancel = request.cancel;
  return result;
}

SamplingOptions to_public(const GenerationDefaults& defaults) {
  SamplingOptions options;
  options.temperature = defaults.temperature.value_or(options.temperature);
  options.top_k = defaults.top_k.value_or(options.top_k);
  options.top_p = defaults.top_p.value_or(options.top_p);
  options.min_p = defaults.min_p.value_or(options.min_p);
  options.repetition_penalty = defaults.repetition_penalty.value_or(options.repetition_penalty);
  return options;
}

GenerationResult to_public(GenerateResult result) {
  GenerationResult out;
  out.text = std::move(result.text);
  out.reasoning = std::move(result.reasoning);
  out.answer = std::move(result.answer);
  out.boxed = std::move(result.boxed);
  out.end = to_public(result.finish_reason);
  out.cause = to_public(result.stop_detail);
  out.stop_string = std::move(result.stop_string);
  out.prompt_tokens = result.prompt_tokens;
  out.completion_tokens = result.completion_tokens;
  out.reasoning_tokens = result.reasoning_tokens;
  out.forced_tokens = result.forced_tokens;
  out.output_ids = std::move(result.output_ids);
  out.logprobs.reserve(result.logprobs.size());
  for (const GenerateLogprob& from : result.logprobs) {
    TokenReport& report = out.logprobs.emplace_back();
    report.id = from.token;
    report.logprob = from.logprob;
    report.top.reserve(from.top.size());
    for (const TokenLogprob& top : from.top) report.top.push_back({top.token, top.logprob});
  }
  out.prompt_seconds = result.timings.prompt_seconds;
  out.decode_seconds = result.timings.decode_seconds;
  return out;
}

ModelInfo describe(const TextModel& model) {
  const ModelSpec& spec = model.spec();
  ModelInfo info;
  info.path = model.path();
  info.format = model.format();
  info.architecture = spec.architecture;
  info.parameters = parameter_count(spec);
  info.n_layers = spec.n_layers();
  info.d_model = spec.d_model;
  info.vocab_size = spec.vocab_size;
  info.max_context = spec.max_context;
  info.context = model.context_limit();
  info.kv_bytes_per_token = model.kv_bytes_per_token();
  if (spec.bos_id >= 0 && spec.bos_id < spec.vocab_size) info.bos_id = static_cast<int32_t>(spec.bos_id);
  info.eos_ids.assign(spec.eos_ids.begin(), spec.eos_ids.end());
  info.has_tokenizer = model.has_tokenizer();
  info.has_chat_format = model.chat_template() != nullptr;
  return info;
}

}  // namespace mobilellm
