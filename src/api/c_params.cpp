// Defaults, checks and conversion of the C API's parameters.
#include "api/c_params.h"

#include <cstdint>
#include <span>

namespace mobilellm::c_api {

void check_array(const void* data, size_t n, size_t element_size, const char* name) {
  if (n > static_cast<size_t>(PTRDIFF_MAX) / element_size) {
    fail(ErrorCode::kInvalidArgument, "[api] {}: a length of {} is impossible", name, n);
  }
  if (data == nullptr && n > 0) {
    fail(ErrorCode::kInvalidArgument, "[api] {}: got NULL with a length of {}, expected a pointer", name, n);
  }
}

std::string_view view(const char* data, size_t length, const char* name) {
  check_array(data, length, 1, name);
  return length == 0 ? std::string_view("") : std::string_view(data, length);
}

std::string_view view(mobilellm_text text, const char* name) { return view(text.data, text.length, name); }

namespace {

template <typename T>
std::span<const T> array(const T* data, size_t n, const char* name) {
  check_array(data, n, sizeof(T), name);
  return {data, n};
}

SamplingOptions to_cpp(const mobilellm_sampling_params& params) {
  SamplingOptions options;
  options.temperature = params.temperature;
  options.top_k = params.top_k;
  options.top_p = params.top_p;
  options.min_p = params.min_p;
  options.repetition_penalty = params.repetition_penalty;
  options.frequency_penalty = params.frequency_penalty;
  options.presence_penalty = params.presence_penalty;
  options.penalize_prompt = params.penalize_prompt;
  for (const mobilellm_logit_bias& bias : array(params.logit_bias, params.n_logit_bias, "sampling.logit_bias")) {
    options.logit_bias.emplace_back(bias.id, bias.bias);
  }
  options.seed = params.seed;
  return options;
}

}  // namespace

std::vector<ChatMessage> to_cpp(const mobilellm_message* messages, size_t n_messages) {
  std::vector<ChatMessage> result;
  for (const mobilellm_message& message : array(messages, n_messages, "messages")) {
    result.push_back(
        {std::string(view(message.role, "messages: role")), std::string(view(message.content, "messages: content"))});
  }
  return result;
}

ModelOptions to_cpp(const mobilellm_model_params& params) {
  ModelOptions options;
  options.n_threads = params.n_threads;
  options.exact = params.exact;
  options.context = params.context;
  options.max_kv_tokens = params.max_kv_tokens;
  options.prefill_chunk = params.prefill_chunk;
  options.speculation = static_cast<Speculation>(params.speculation);
  options.max_draft = params.max_draft;
  options.draft_model = view(params.draft_model, "draft_model");
  if (params.on_progress != nullptr) {
    options.on_progress = [call = params.on_progress, user_data = params.progress_user_data](double fraction) {
      return call(fraction, user_data);
    };
  }
  return options;
}

TokenizeOptions to_cpp(const mobilellm_tokenize_params& params) { return {params.add_special, params.parse_special}; }

RenderOptions to_cpp(const mobilellm_render_params& params) {
  RenderOptions options;
  options.add_generation_prompt = params.add_generation_prompt;
  options.tools_json = view(params.tools_json, "tools_json");
  options.template_args_json = view(params.template_args_json, "template_args_json");
  options.now = view(params.now, "now");
  return options;
}

GenerationRequest to_cpp(const mobilellm_generate_params& params) {
  GenerationRequest request;
  request.prompt = view(params.prompt, "prompt");
  request.messages = to_cpp(params.messages, params.n_messages);
  request.messages_json = view(params.messages_json, "messages_json");
  const auto prompt_ids = array(params.prompt_ids, params.n_prompt_ids, "prompt_ids");
  request.prompt_ids.assign(prompt_ids.begin(), prompt_ids.end());
  request.use_chat_template = params.use_chat_template;
  request.final_only = params.final_only;
  const std::string_view system = view(params.system, "system");
  if (params.system.data != nullptr) request.system = system;
  request.tools_json = view(params.tools_json, "tools_json");
  request.template_args_json = view(params.template_args_json, "template_args_json");
  request.now = view(params.now, "now");
  request.prefill_response = view(params.prefill_response, "prefill_response");
  request.sampling = to_cpp(params.sampling);
  if (params.max_tokens != -1) request.max_tokens = params.max_tokens;
  for (const mobilellm_text& stop : array(params.stop, params.n_stop, "stop")) {
    request.stop.emplace_back(view(stop, "stop"));
  }
  const auto extra_eos_ids = array(params.extra_eos_ids, params.n_extra_eos_ids, "extra_eos_ids");
  request.extra_eos_ids.assign(extra_eos_ids.begin(), extra_eos_ids.end());
  request.ignore_eos = params.ignore_eos;
  request.stop_at_boxed = params.stop_at_boxed;
  request.split_reasoning = params.split_reasoning;
  request.thinking_budget = params.thinking_budget;
  request.loop_guard = static_cast<LoopGuard>(params.loop_guard);
  if (params.n_logprobs != -1) request.n_logprobs = params.n_logprobs;
  request.sample = params.sample;
  if (params.cancel != nullptr) request.cancel = &params.cancel->is_set;
  return request;
}

mobilellm_sampling_params to_c(const SamplingOptions& options) {
  mobilellm_sampling_params params{};
  params.temperature = options.temperature;
  params.top_k = options.top_k;
  params.top_p = options.top_p;
  params.min_p = options.min_p;
  params.repetition_penalty = options.repetition_penalty;
  params.frequency_penalty = options.frequency_penalty;
  params.presence_penalty = options.presence_penalty;
  params.penalize_prompt = options.penalize_prompt;
  params.seed = options.seed;
  return params;
}

}  // namespace mobilellm::c_api

extern "C" {

mobilellm_model_params mobilellm_model_default_params(void) {
  const mobilellm::ModelOptions options;
  mobilellm_model_params params{};
  params.struct_size = sizeof(params);
  params.prefill_chunk = options.prefill_chunk;
  params.speculation = static_cast<mobilellm_speculation>(options.speculation);
  params.max_draft = options.max_draft;
  return params;
}

mobilellm_tokenize_params mobilellm_tokenize_default_params(void) {
  mobilellm_tokenize_params params{};
  params.struct_size = sizeof(params);
  return params;
}

mobilellm_render_params mobilellm_render_default_params(void) {
  mobilellm_render_params params{};
  params.struct_size = sizeof(params);
  params.add_generation_prompt = true;
  return params;
}

mobilellm_sampling_params mobilellm_sampling_default_params(void) { return mobilellm::c_api::to_c({}); }

mobilellm_generate_params mobilellm_generate_default_params(void) {
  mobilellm_generate_params params{};
  params.struct_size = sizeof(params);
  params.use_chat_template = true;
  params.split_reasoning = true;
  params.sampling = mobilellm_sampling_default_params();
  params.max_tokens = -1;
  params.thinking_budget = -1;
  params.n_logprobs = -1;
  return params;
}

}  // extern "C"
