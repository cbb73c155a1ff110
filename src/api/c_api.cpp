// The C API's handles and functions, on top of the C++ API.
#include "mobilellm/c_api.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "api/c_error.h"
#include "api/c_params.h"
#include "mobilellm/mobilellm.h"

using namespace mobilellm;
using c_api::guard;
using c_api::read_params;
using c_api::require;
using c_api::to_cpp;
using c_api::view;

struct mobilellm_model {
  Model value;
};

struct mobilellm_tokenizer {
  TextTokenizer value;
};

struct mobilellm_chat_format {
  ChatFormat value;
};

struct mobilellm_result {
  GenerationResult value;
  std::vector<std::vector<mobilellm_token_probability>> top;  // Of value.logprobs.
};

namespace {

mobilellm_text text_of(const std::string& text) { return {text.c_str(), text.size()}; }

// Outputs are NULL or 0 when a call fails, also when it fails at once.
template <typename T>
void clear(T* out) {
  if (out != nullptr) *out = T{};
}

std::unique_ptr<mobilellm_result> make_result(GenerationResult value) {
  auto result = std::make_unique<mobilellm_result>();
  result->value = std::move(value);
  result->top.resize(result->value.logprobs.size());
  for (size_t i = 0; i < result->top.size(); ++i) {
    for (const TokenProbability& top : result->value.logprobs[i].top) result->top[i].push_back({top.id, top.logprob});
  }
  return result;
}

PieceCallback make_callback(mobilellm_piece_callback on_piece, void* user_data) {
  if (on_piece == nullptr) return {};
  return [on_piece, user_data](const GenerationPiece& piece) {
    const mobilellm_piece c_piece = {piece.index, piece.is_reasoning, {piece.text.data(), piece.text.size()}};
    return on_piece(&c_piece, user_data);
  };
}

GenerationRequest read_request(const mobilellm_generate_params* params) {
  return to_cpp(read_params(params, mobilellm_generate_default_params(), "mobilellm_generate_params"));
}

}  // namespace

extern "C" {

// ---- Version, log, texts ----

mobilellm_text mobilellm_text_from(const char* c_string) {
  if (c_string == nullptr) return {nullptr, 0};
  return {c_string, std::strlen(c_string)};
}

const char* mobilellm_version_string(void) { return MOBILELLM_VERSION_STRING; }
int mobilellm_version_number(void) { return MOBILELLM_VERSION_NUMBER; }

void mobilellm_log_set_callback(mobilellm_log_callback callback, void* user_data) {
  guard([&] {
    if (callback == nullptr) return set_log_callback({});
    set_log_callback([callback, user_data](LogSeverity severity, std::string_view message) {
      callback(static_cast<mobilellm_log_level>(severity), {message.data(), message.size()}, user_data);
    });
  });
}

// ---- Model ----

mobilellm_status mobilellm_model_load(const char* path, size_t path_length, const mobilellm_model_params* params,
                                      mobilellm_model** out) {
  clear(out);
  return guard([&] {
    require(out, "out");
    require(path, "path");
    const auto options = to_cpp(read_params(params, mobilellm_model_default_params(), "mobilellm_model_params"));
    *out = new mobilellm_model{Model::load(std::string(view(path, path_length, "path")), options)};
  });
}

void mobilellm_model_free(mobilellm_model* model) { delete model; }

mobilellm_model_info mobilellm_model_get_info(const mobilellm_model* model) {
  mobilellm_model_info info{};
  if (model == nullptr) return info;
  const ModelInfo& from = model->value.info();
  info.path = text_of(from.path);
  info.format = text_of(from.format);
  info.architecture = text_of(from.architecture);
  info.parameters = from.parameters;
  info.n_layers = from.n_layers;
  info.d_model = from.d_model;
  info.vocab_size = from.vocab_size;
  info.max_context = from.max_context;
  info.context = from.context;
  info.kv_bytes_per_token = from.kv_bytes_per_token;
  info.bos_id = from.bos_id.value_or(-1);
  info.eos_ids = from.eos_ids.data();
  info.n_eos_ids = from.eos_ids.size();
  info.has_tokenizer = from.has_tokenizer;
  info.has_chat_format = from.has_chat_format;
  return info;
}

mobilellm_sampling_params mobilellm_model_get_sampling_params(const mobilellm_model* model) {
  return model == nullptr ? mobilellm_sampling_default_params() : c_api::to_c(model->value.recommended_sampling());
}

// ---- Tokenizer ----

mobilellm_status mobilellm_tokenizer_load(const char* path, size_t path_length, mobilellm_tokenizer** out) {
  clear(out);
  return guard([&] {
    require(out, "out");
    require(path, "path");
    *out = new mobilellm_tokenizer{TextTokenizer::load(std::string(view(path, path_length, "path")))};
  });
}

mobilellm_status mobilellm_model_get_tokenizer(const mobilellm_model* model, mobilellm_tokenizer** out) {
  clear(out);
  return guard([&] {
    require(model, "model");
    require(out, "out");
    *out = new mobilellm_tokenizer{model->value.tokenizer()};
  });
}

void mobilellm_tokenizer_free(mobilellm_tokenizer* tokenizer) { delete tokenizer; }

mobilellm_status mobilellm_tokenizer_encode(const mobilellm_tokenizer* tokenizer, const char* text, size_t text_length,
                                            const mobilellm_tokenize_params* params, int32_t* ids, size_t capacity,
                                            size_t* n_ids) {
  clear(n_ids);
  return guard([&] {
    require(tokenizer, "tokenizer");
    require(n_ids, "n_ids");
    const auto options = to_cpp(read_params(params, mobilellm_tokenize_default_params(), "mobilellm_tokenize_params"));
    c_api::fill(tokenizer->value.encode(view(text, text_length, "text"), options), ids, capacity, n_ids);
  });
}

mobilellm_status mobilellm_tokenizer_decode(const mobilellm_tokenizer* tokenizer, const int32_t* ids, size_t n_ids,
                                            bool skip_special, char* text, size_t capacity, size_t* text_length) {
  clear(text_length);
  return guard([&] {
    require(tokenizer, "tokenizer");
    require(text_length, "text_length");
    c_api::check_array(ids, n_ids, sizeof(*ids), "ids");
    c_api::fill(tokenizer->value.decode(std::span(ids, n_ids), skip_special), text, capacity, text_length);
  });
}

mobilellm_status mobilellm_tokenizer_token_bytes(const mobilellm_tokenizer* tokenizer, int32_t id, char* bytes,
                                                 size_t capacity, size_t* n_bytes) {
  clear(n_bytes);
  return guard([&] {
    require(tokenizer, "tokenizer");
    require(n_bytes, "n_bytes");
    c_api::fill(tokenizer->value.token_bytes(id), bytes, capacity, n_bytes);
  });
}

int32_t mobilellm_tokenizer_find(const mobilellm_tokenizer* tokenizer, const char* token_text,
                                 size_t token_text_length) {
  int32_t id = -1;
  if (tokenizer == nullptr) return id;
  guard([&] { id = tokenizer->value.find(view(token_text, token_text_length, "token_text")).value_or(-1); });
  return id;
}

bool mobilellm_tokenizer_is_special(const mobilellm_tokenizer* tokenizer, int32_t id) {
  return tokenizer != nullptr && tokenizer->value.is_special(id);
}

size_t mobilellm_tokenizer_vocab_size(const mobilellm_tokenizer* tokenizer) {
  return tokenizer == nullptr ? 0 : tokenizer->value.vocab_size();
}

int32_t mobilellm_tokenizer_bos_id(const mobilellm_tokenizer* tokenizer) {
  return tokenizer == nullptr ? -1 : tokenizer->value.bos_id().value_or(-1);
}

// ---- Chat format ----

mobilellm_status mobilellm_chat_format_load(const char* path, size_t path_length, mobilellm_chat_format** out) {
  clear(out);
  return guard([&] {
    require(out, "out");
    require(path, "path");
    *out = new mobilellm_chat_format{ChatFormat::load(std::string(view(path, path_length, "path")))};
  });
}

mobilellm_status mobilellm_model_get_chat_format(const mobilellm_model* model, mobilellm_chat_format** out) {
  clear(out);
  return guard([&] {
    require(model, "model");
    require(out, "out");
    *out = new mobilellm_chat_format{model->value.chat_format()};
  });
}

void mobilellm_chat_format_free(mobilellm_chat_format* format) { delete format; }

mobilellm_status mobilellm_chat_format_render(const mobilellm_chat_format* format, const mobilellm_message* messages,
                                              size_t n_messages, const mobilellm_render_params* params, char* text,
                                              size_t capacity, size_t* text_length) {
  clear(text_length);
  return guard([&] {
    require(format, "format");
    require(text_length, "text_length");
    const auto c_params = read_params(params, mobilellm_render_default_params(), "mobilellm_render_params");
    const RenderOptions options = to_cpp(c_params);
    const std::string_view messages_json = view(c_params.messages_json, "messages_json");
    const std::string rendered = n_messages == 0 && !messages_json.empty()
                                     ? format->value.render_json(messages_json, options)
                                     : format->value.render(to_cpp(messages, n_messages), options);
    c_api::fill(rendered, text, capacity, text_length);
  });
}

// ---- Generation ----

mobilellm_status mobilellm_cancel_flag_new(mobilellm_cancel_flag** out) {
  clear(out);
  return guard([&] {
    require(out, "out");
    *out = new mobilellm_cancel_flag;
  });
}

void mobilellm_cancel_flag_set(mobilellm_cancel_flag* flag, bool is_cancelled) {
  if (flag != nullptr) flag->is_set.store(is_cancelled);
}

void mobilellm_cancel_flag_free(mobilellm_cancel_flag* flag) { delete flag; }

mobilellm_status mobilellm_model_preview_text(const mobilellm_model* model, const mobilellm_generate_params* params,
                                              char* text, size_t capacity, size_t* text_length) {
  clear(text_length);
  return guard([&] {
    require(model, "model");
    require(text_length, "text_length");
    c_api::fill(model->value.preview(read_request(params)).text, text, capacity, text_length);
  });
}

mobilellm_status mobilellm_model_preview_ids(const mobilellm_model* model, const mobilellm_generate_params* params,
                                             int32_t* ids, size_t capacity, size_t* n_ids) {
  clear(n_ids);
  return guard([&] {
    require(model, "model");
    require(n_ids, "n_ids");
    c_api::fill(model->value.preview(read_request(params)).ids, ids, capacity, n_ids);
  });
}

mobilellm_status mobilellm_model_generate(mobilellm_model* model, const mobilellm_generate_params* params,
                                          mobilellm_piece_callback on_piece, void* user_data, mobilellm_result** out) {
  clear(out);
  return guard([&] {
    require(model, "model");
    require(out, "out");
    *out = make_result(model->value.generate(read_request(params), make_callback(on_piece, user_data))).release();
  });
}

mobilellm_status mobilellm_model_generate_all(mobilellm_model* model, const mobilellm_generate_params* requests,
                                              size_t n_requests, mobilellm_piece_callback on_piece, void* user_data,
                                              mobilellm_result** results) {
  return guard([&] {
    // First of all, so that a wrong length is not used to clear the results.
    c_api::check_array(results, n_requests, sizeof(mobilellm_generate_params), "results");
    std::fill_n(results, n_requests, nullptr);
    require(model, "model");
    c_api::check_array(requests, n_requests, sizeof(mobilellm_generate_params), "requests");
    std::vector<GenerationRequest> cpp_requests;
    for (size_t i = 0; i < n_requests; ++i) cpp_requests.push_back(read_request(&requests[i]));
    std::vector<std::unique_ptr<mobilellm_result>> made;
    for (GenerationResult& result : model->value.generate_all(cpp_requests, make_callback(on_piece, user_data))) {
      made.push_back(make_result(std::move(result)));
    }
    for (size_t i = 0; i < made.size(); ++i) results[i] = made[i].release();
  });
}

// ---- Result ----

void mobilellm_result_free(mobilellm_result* result) { delete result; }

const char* mobilellm_end_name(mobilellm_end end) { return to_string(static_cast<GenerationEnd>(end)); }
const char* mobilellm_cause_name(mobilellm_cause cause) { return to_string(static_cast<GenerationCause>(cause)); }

mobilellm_result_info mobilellm_result_get_info(const mobilellm_result* result) {
  mobilellm_result_info info{};
  if (result == nullptr) return info;
  const GenerationResult& from = result->value;
  info.end = static_cast<mobilellm_end>(from.end);
  info.cause = static_cast<mobilellm_cause>(from.cause);
  info.prompt_tokens = from.prompt_tokens;
  info.completion_tokens = from.completion_tokens;
  info.reasoning_tokens = from.reasoning_tokens;
  info.forced_tokens = from.forced_tokens;
  info.prompt_seconds = from.prompt_seconds;
  info.decode_seconds = from.decode_seconds;
  return info;
}

mobilellm_text mobilellm_result_text(const mobilellm_result* result) {
  return result == nullptr ? mobilellm_text{} : text_of(result->value.text);
}
mobilellm_text mobilellm_result_reasoning(const mobilellm_result* result) {
  return result == nullptr ? mobilellm_text{} : text_of(result->value.reasoning);
}
mobilellm_text mobilellm_result_answer(const mobilellm_result* result) {
  return result == nullptr ? mobilellm_text{} : text_of(result->value.answer);
}
mobilellm_text mobilellm_result_boxed(const mobilellm_result* result) {
  return result == nullptr || !result->value.boxed ? mobilellm_text{} : text_of(*result->value.boxed);
}
mobilellm_text mobilellm_result_stop_string(const mobilellm_result* result) {
  return result == nullptr ? mobilellm_text{} : text_of(result->value.stop_string);
}

const int32_t* mobilellm_result_ids(const mobilellm_result* result, size_t* n_ids) {
  clear(n_ids);
  if (result == nullptr) return nullptr;
  if (n_ids != nullptr) *n_ids = result->value.output_ids.size();
  return result->value.output_ids.data();
}

bool mobilellm_result_logprob(const mobilellm_result* result, size_t position, double* logprob) {
  clear(logprob);
  if (result == nullptr || position >= result->value.logprobs.size()) return false;
  const auto& from = result->value.logprobs[position].logprob;
  if (!from) return false;
  if (logprob != nullptr) *logprob = *from;
  return true;
}

const mobilellm_token_probability* mobilellm_result_top_logprobs(const mobilellm_result* result, size_t position,
                                                                 size_t* n_top) {
  clear(n_top);
  if (result == nullptr || position >= result->top.size()) return nullptr;
  if (n_top != nullptr) *n_top = result->top[position].size();
  return result->top[position].data();
}

}  // extern "C"
