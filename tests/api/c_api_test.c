/* The C API from C: a model used in every way, and every kind of wrong argument. c_api_test MODEL (the golden r1_chat)
 */
#include <mobilellm/c_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int n_failures = 0;

#define CHECK(condition)                                                                      \
  do {                                                                                        \
    if (!(condition)) {                                                                       \
      fprintf(stderr, "%s:%d: failed: %s (last error: %s)\n", __FILE__, __LINE__, #condition, \
              mobilellm_last_error().data);                                                   \
      ++n_failures;                                                                           \
    }                                                                                         \
  } while (0)

/* Whether a call failed with this status and with a message that contains `part`. */
static bool failed_with(mobilellm_status status, mobilellm_status expected, const char* part) {
  const mobilellm_text message = mobilellm_last_error();
  return status == expected && strlen(message.data) == message.length && strstr(message.data, part) != NULL;
}

#define CHECK_INVALID(call, part) CHECK(failed_with((call), MOBILELLM_ERROR_INVALID_ARGUMENT, part))

static bool equal(mobilellm_text text, const char* expected) {
  return text.data != NULL && text.length == strlen(expected) && memcmp(text.data, expected, text.length) == 0;
}

static void test_names(void) {
  CHECK(mobilellm_version_number() == MOBILELLM_VERSION_NUMBER);
  CHECK(strcmp(mobilellm_version_string(), MOBILELLM_VERSION_STRING) == 0);
  CHECK(strcmp(mobilellm_status_name(MOBILELLM_OK), "ok") == 0);
  CHECK(strcmp(mobilellm_status_name(MOBILELLM_ERROR_CORRUPT_DATA), "corrupt_data") == 0);
  CHECK(strcmp(mobilellm_status_name(MOBILELLM_ERROR_BUFFER_TOO_SMALL), "buffer_too_small") == 0);
  CHECK(strcmp(mobilellm_status_name((mobilellm_status)99), "unknown") == 0);
  CHECK(strcmp(mobilellm_end_name(MOBILELLM_END_LENGTH), "length") == 0);
  CHECK(strcmp(mobilellm_end_name((mobilellm_end)99), "unknown") == 0);
  CHECK(strcmp(mobilellm_cause_name(MOBILELLM_CAUSE_MAX_TOKENS), "max_tokens") == 0);
  CHECK(strcmp(mobilellm_cause_name(MOBILELLM_CAUSE_LOOP), "loop") == 0);
  CHECK(strcmp(mobilellm_cause_name((mobilellm_cause)99), "unknown") == 0);
  CHECK(equal(mobilellm_text_from("abc"), "abc"));
  CHECK(mobilellm_text_from(NULL).data == NULL && mobilellm_text_from(NULL).length == 0);
}

static bool stop_loading(double fraction, void* user_data) {
  *(double*)user_data = fraction;
  return false;
}

static void test_load_errors(const char* path) {
  const char* const missing = "/no/such/model";
  mobilellm_model* model = (mobilellm_model*)&model;
  mobilellm_tokenizer* tokenizer = NULL;
  mobilellm_chat_format* format = NULL;
  mobilellm_model_params params = mobilellm_model_default_params();
  double fraction = -1;

  CHECK(failed_with(mobilellm_model_load(missing, strlen(missing), NULL, &model), MOBILELLM_ERROR_NOT_FOUND, missing));
  CHECK(model == NULL);
  CHECK(
      failed_with(mobilellm_tokenizer_load(missing, strlen(missing), &tokenizer), MOBILELLM_ERROR_NOT_FOUND, missing));
  CHECK(failed_with(mobilellm_chat_format_load(missing, strlen(missing), &format), MOBILELLM_ERROR_NOT_FOUND, missing));
  CHECK_INVALID(mobilellm_model_load(NULL, 0, NULL, &model), "path: got NULL");
  CHECK_INVALID(mobilellm_model_load(path, 0, NULL, &model), "path: got nothing");
  CHECK_INVALID(mobilellm_model_load(path, strlen(path) + 1, NULL, &model), "zero byte");
  CHECK_INVALID(mobilellm_model_load(path, SIZE_MAX, NULL, &model), "impossible");
  CHECK_INVALID(mobilellm_model_load(path, strlen(path), NULL, NULL), "out: got NULL");
  CHECK_INVALID(mobilellm_tokenizer_load(NULL, 5, &tokenizer), "path");
  CHECK_INVALID(mobilellm_tokenizer_load(path, strlen(path), NULL), "out");
  CHECK_INVALID(mobilellm_chat_format_load(NULL, 5, &format), "path");
  CHECK_INVALID(mobilellm_chat_format_load(path, strlen(path), NULL), "out");

  params.struct_size = 0;
  CHECK_INVALID(mobilellm_model_load(path, strlen(path), &params, &model), "struct_size is 0");
  params = mobilellm_model_default_params();
  params.n_threads = -1;
  CHECK_INVALID(mobilellm_model_load(path, strlen(path), &params, &model), "n_threads: got -1");
  params = mobilellm_model_default_params();
  params.on_progress = stop_loading;
  params.progress_user_data = &fraction;
  CHECK(failed_with(mobilellm_model_load(path, strlen(path), &params, &model), MOBILELLM_ERROR_CANCELLED, ""));
  CHECK(fraction >= 0 && fraction <= 1);
}

static void test_null_handles(void) {
  size_t n = 7;
  double logprob = 7;
  int32_t id = 0;
  char byte = 0;
  mobilellm_tokenizer* tokenizer = NULL;
  mobilellm_chat_format* format = NULL;
  mobilellm_result* result = NULL;
  const mobilellm_message message = {{"user", 4}, {"x", 1}};

  mobilellm_model_free(NULL);
  mobilellm_tokenizer_free(NULL);
  mobilellm_chat_format_free(NULL);
  mobilellm_result_free(NULL);
  mobilellm_cancel_flag_free(NULL);
  mobilellm_cancel_flag_set(NULL, true);
  CHECK(mobilellm_model_get_info(NULL).vocab_size == 0);
  CHECK(mobilellm_model_get_sampling_params(NULL).top_p == 1);
  CHECK_INVALID(mobilellm_model_get_tokenizer(NULL, &tokenizer), "model: got NULL");
  CHECK_INVALID(mobilellm_model_get_chat_format(NULL, &format), "model: got NULL");
  CHECK_INVALID(mobilellm_model_generate(NULL, NULL, NULL, NULL, &result), "model: got NULL");
  CHECK_INVALID(mobilellm_model_generate_all(NULL, NULL, 0, NULL, NULL, NULL), "model: got NULL");
  CHECK_INVALID(mobilellm_model_preview_text(NULL, NULL, &byte, 1, &n), "model: got NULL");
  CHECK_INVALID(mobilellm_model_preview_ids(NULL, NULL, &id, 1, &n), "model: got NULL");
  CHECK_INVALID(mobilellm_tokenizer_encode(NULL, "a", 1, NULL, &id, 1, &n), "tokenizer: got NULL");
  CHECK_INVALID(mobilellm_tokenizer_decode(NULL, &id, 1, false, &byte, 1, &n), "tokenizer: got NULL");
  CHECK_INVALID(mobilellm_tokenizer_token_bytes(NULL, 1, &byte, 1, &n), "tokenizer: got NULL");
  CHECK_INVALID(mobilellm_chat_format_render(NULL, &message, 1, NULL, &byte, 1, &n), "format: got NULL");
  CHECK_INVALID(mobilellm_cancel_flag_new(NULL), "out: got NULL");
  CHECK(n == 0);
  CHECK(mobilellm_tokenizer_find(NULL, "a", 1) == -1);
  CHECK(!mobilellm_tokenizer_is_special(NULL, 1));
  CHECK(mobilellm_tokenizer_vocab_size(NULL) == 0);
  CHECK(mobilellm_tokenizer_bos_id(NULL) == -1);
  CHECK(mobilellm_result_get_info(NULL).end == 0);
  CHECK(mobilellm_result_text(NULL).data == NULL);
  CHECK(mobilellm_result_reasoning(NULL).data == NULL);
  CHECK(mobilellm_result_answer(NULL).data == NULL);
  CHECK(mobilellm_result_boxed(NULL).data == NULL);
  CHECK(mobilellm_result_stop_string(NULL).data == NULL);
  n = 7;
  CHECK(mobilellm_result_ids(NULL, &n) == NULL && n == 0);
  n = 7;
  CHECK(mobilellm_result_top_logprobs(NULL, 0, &n) == NULL && n == 0);
  CHECK(!mobilellm_result_logprob(NULL, 0, &logprob) && logprob == 0);
}

static void test_info(const mobilellm_model* model, const char* path) {
  const mobilellm_model_info info = mobilellm_model_get_info(model);
  const mobilellm_sampling_params sampling = mobilellm_model_get_sampling_params(model);
  CHECK(equal(info.path, path));
  CHECK(equal(info.format, "safetensors"));
  CHECK(info.architecture.length > 0);
  CHECK(info.parameters > 1024 * 64);
  CHECK(info.n_layers == 3 && info.d_model == 64 && info.vocab_size == 1024);
  CHECK(info.max_context == 2048 && info.context == 500);
  CHECK(info.kv_bytes_per_token > 0);
  CHECK(info.bos_id == 1000);
  CHECK(info.n_eos_ids == 3 && info.eos_ids[0] == 1001 && info.eos_ids[2] == 1009);
  CHECK(info.has_tokenizer && info.has_chat_format);
  CHECK(sampling.temperature == 0.6 && sampling.top_p == 0.9 && sampling.repetition_penalty == 1);
}

static void test_tokenizer(const mobilellm_tokenizer* tokenizer) {
  const char text[] = "Hello w\xC3\xB6rld <|eot_id|>";
  const size_t text_length = sizeof(text) - 1;
  int32_t ids[64];
  char back[64];
  size_t n_ids = 0, n_bytes = 0, needed = 0;
  mobilellm_tokenize_params params = mobilellm_tokenize_default_params();

  CHECK(mobilellm_tokenizer_encode(tokenizer, text, text_length, NULL, NULL, 0, &needed) == MOBILELLM_OK && needed > 3);
  CHECK(mobilellm_tokenizer_encode(tokenizer, text, text_length, NULL, ids, 64, &n_ids) == MOBILELLM_OK);
  CHECK(n_ids == needed);
  CHECK(mobilellm_tokenizer_decode(tokenizer, ids, n_ids, false, back, 64, &n_bytes) == MOBILELLM_OK);
  CHECK(n_bytes == text_length && memcmp(back, text, text_length) == 0);
  CHECK(mobilellm_tokenizer_encode(tokenizer, NULL, 0, NULL, ids, 64, &n_ids) == MOBILELLM_OK && n_ids == 0);
  CHECK(mobilellm_tokenizer_decode(tokenizer, NULL, 0, false, back, 64, &n_bytes) == MOBILELLM_OK && n_bytes == 0);
  params.add_special = true;
  params.parse_special = true;
  CHECK(mobilellm_tokenizer_encode(tokenizer, "<|eot_id|>", 10, &params, ids, 64, &n_ids) == MOBILELLM_OK);
  CHECK(n_ids == 2 && ids[0] == 1000 && ids[1] == 1009);
  CHECK(mobilellm_tokenizer_decode(tokenizer, ids, n_ids, true, back, 64, &n_bytes) == MOBILELLM_OK && n_bytes == 0);

  /* Wrong sizes: the buffers stay as they are, the size needed comes back. */
  ids[0] = -5;
  CHECK(failed_with(mobilellm_tokenizer_encode(tokenizer, text, text_length, NULL, ids, needed - 1, &n_ids),
                    MOBILELLM_ERROR_BUFFER_TOO_SMALL, "buffer"));
  CHECK(n_ids == needed && ids[0] == -5);
  CHECK(mobilellm_tokenizer_encode(tokenizer, text, text_length, NULL, ids, needed, &n_ids) == MOBILELLM_OK);
  back[0] = '#';
  CHECK(failed_with(mobilellm_tokenizer_decode(tokenizer, ids, n_ids, false, back, text_length - 1, &n_bytes),
                    MOBILELLM_ERROR_BUFFER_TOO_SMALL, "buffer"));
  CHECK(n_bytes == text_length && back[0] == '#');
  CHECK_INVALID(mobilellm_tokenizer_encode(tokenizer, text, text_length, NULL, NULL, 5, &n_ids), "buffer: got NULL");
  CHECK_INVALID(mobilellm_tokenizer_encode(tokenizer, NULL, 5, NULL, ids, 64, &n_ids), "text: got NULL");
  CHECK_INVALID(mobilellm_tokenizer_encode(tokenizer, text, SIZE_MAX, NULL, ids, 64, &n_ids), "impossible");
  CHECK_INVALID(mobilellm_tokenizer_encode(tokenizer, text, text_length, NULL, ids, 64, NULL), "n_ids: got NULL");
  CHECK_INVALID(mobilellm_tokenizer_decode(tokenizer, NULL, 5, false, back, 64, &n_bytes), "ids: got NULL");
  CHECK_INVALID(mobilellm_tokenizer_decode(tokenizer, ids, SIZE_MAX / 2, false, back, 64, &n_bytes), "impossible");
  CHECK_INVALID(mobilellm_tokenizer_decode(tokenizer, ids, 1, false, back, 64, NULL), "text_length: got NULL");
  params.struct_size = 3;
  CHECK_INVALID(mobilellm_tokenizer_encode(tokenizer, text, 1, &params, ids, 64, &n_ids), "struct_size");

  CHECK(mobilellm_tokenizer_find(tokenizer, "<|eot_id|>", 10) == 1009);
  CHECK(mobilellm_tokenizer_find(tokenizer, "no such token", 13) == -1);
  CHECK(mobilellm_tokenizer_find(tokenizer, NULL, 13) == -1);
  CHECK(mobilellm_tokenizer_is_special(tokenizer, 1009) && !mobilellm_tokenizer_is_special(tokenizer, 97));
  CHECK(mobilellm_tokenizer_vocab_size(tokenizer) == 1024);
  CHECK(mobilellm_tokenizer_bos_id(tokenizer) == 1000);
  CHECK(mobilellm_tokenizer_token_bytes(tokenizer, 1009, back, 64, &n_bytes) == MOBILELLM_OK && n_bytes == 10);
  CHECK(mobilellm_tokenizer_token_bytes(tokenizer, -1, back, 64, &n_bytes) == MOBILELLM_OK && n_bytes == 0);
}

static void test_chat_format(const mobilellm_chat_format* format, const mobilellm_model* model) {
  const char expected[] =
      "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
      "<|start_header_id|>assistant<|end_header_id|>\n\n";
  const size_t expected_length = sizeof(expected) - 1;
  const char json[] = "[{\"role\": \"user\", \"content\": \"Hi\"}]";
  const mobilellm_message messages[] = {{{"user", 4}, {"Hi", 2}}};
  const mobilellm_message broken[] = {{{"user", 4}, {NULL, 2}}};
  mobilellm_render_params params = mobilellm_render_default_params();
  mobilellm_generate_params generate = mobilellm_generate_default_params();
  char text[256];
  int32_t ids[64];
  size_t length = 0, n_ids = 0;

  CHECK(mobilellm_chat_format_render(format, messages, 1, NULL, text, sizeof(text), &length) == MOBILELLM_OK);
  CHECK(length == expected_length && memcmp(text, expected, length) == 0);
  params.messages_json = mobilellm_text_from(json);
  CHECK(mobilellm_chat_format_render(format, NULL, 0, &params, text, sizeof(text), &length) == MOBILELLM_OK);
  CHECK(length == expected_length && memcmp(text, expected, length) == 0);
  CHECK(failed_with(mobilellm_chat_format_render(format, messages, 1, NULL, text, 10, &length),
                    MOBILELLM_ERROR_BUFFER_TOO_SMALL, "buffer"));
  CHECK(length == expected_length);
  CHECK_INVALID(mobilellm_chat_format_render(format, NULL, 0, NULL, text, sizeof(text), &length), "one message");
  CHECK_INVALID(mobilellm_chat_format_render(format, NULL, 1, NULL, text, sizeof(text), &length), "messages: got NULL");
  CHECK_INVALID(mobilellm_chat_format_render(format, broken, 1, NULL, text, sizeof(text), &length),
                "messages: content");
  params.template_args_json = mobilellm_text_from("[");
  CHECK_INVALID(mobilellm_chat_format_render(format, messages, 1, &params, text, sizeof(text), &length),
                "template_args_json");

  generate.prompt = mobilellm_text_from("Hi");
  CHECK(mobilellm_model_preview_text(model, &generate, text, sizeof(text), &length) == MOBILELLM_OK);
  CHECK(length == expected_length && memcmp(text, expected, length) == 0);
  CHECK(mobilellm_model_preview_ids(model, &generate, NULL, 0, &n_ids) == MOBILELLM_OK && n_ids > 5 && n_ids < 64);
  CHECK(mobilellm_model_preview_ids(model, &generate, ids, n_ids, &n_ids) == MOBILELLM_OK && ids[0] == 1000);
  CHECK(
      failed_with(mobilellm_model_preview_ids(model, &generate, ids, 2, &n_ids), MOBILELLM_ERROR_BUFFER_TOO_SMALL, ""));
}

typedef struct Shown {
  char text[2][4096];
  size_t length[2];
  size_t n_pieces;
  size_t max_pieces; /* The callback answers false from this one on. */
} Shown;

static bool show(const mobilellm_piece* piece, void* user_data) {
  Shown* shown = user_data;
  CHECK(piece->index < 2 && piece->text.length > 0 && !piece->is_reasoning);
  memcpy(shown->text[piece->index] + shown->length[piece->index], piece->text.data, piece->text.length);
  shown->length[piece->index] += piece->text.length;
  return ++shown->n_pieces < shown->max_pieces;
}

static mobilellm_generate_params sampled_params(void) {
  mobilellm_generate_params params = mobilellm_generate_default_params();
  params.prompt = mobilellm_text_from("What is 2+2?");
  params.sampling.temperature = 1;
  params.sampling.seed = 3;
  params.max_tokens = 30;
  params.ignore_eos = true;
  return params;
}

static void test_generate(mobilellm_model* model) {
  mobilellm_generate_params params = sampled_params();
  mobilellm_generate_params both[2];
  mobilellm_result *result = NULL, *cancelled = NULL, *many[2] = {NULL, NULL};
  mobilellm_cancel_flag* flag = NULL;
  const mobilellm_token_probability* top;
  Shown shown = {.max_pieces = SIZE_MAX};
  mobilellm_result_info info;
  const int32_t* ids;
  size_t n_ids = 0, n_top = 0;
  double logprob = 0;

  params.n_logprobs = 2;
  CHECK(mobilellm_model_generate(model, &params, show, &shown, &result) == MOBILELLM_OK);
  info = mobilellm_result_get_info(result);
  CHECK(info.end == MOBILELLM_END_LENGTH && info.cause == MOBILELLM_CAUSE_MAX_TOKENS);
  CHECK(info.completion_tokens == 30 && info.prompt_tokens > 10 && info.prompt_seconds > 0);
  CHECK(shown.n_pieces > 1);
  CHECK(mobilellm_result_text(result).length == shown.length[0]);
  CHECK(memcmp(mobilellm_result_text(result).data, shown.text[0], shown.length[0]) == 0);
  CHECK(strlen(mobilellm_result_text(result).data) <= shown.length[0]);
  CHECK(mobilellm_result_answer(result).length == shown.length[0]);
  CHECK(equal(mobilellm_result_reasoning(result), ""));
  CHECK(equal(mobilellm_result_stop_string(result), ""));
  CHECK(mobilellm_result_boxed(result).data == NULL);
  ids = mobilellm_result_ids(result, &n_ids);
  CHECK(n_ids == 30 && ids != NULL && mobilellm_result_ids(result, NULL) == ids);
  top = mobilellm_result_top_logprobs(result, 29, &n_top);
  CHECK(n_top == 2 && top[0].logprob >= top[1].logprob && top[0].logprob <= 0);
  CHECK(mobilellm_result_logprob(result, 29, &logprob) && logprob <= top[0].logprob);
  CHECK(mobilellm_result_logprob(result, 29, NULL));
  CHECK(!mobilellm_result_logprob(result, 30, &logprob) && logprob == 0);
  CHECK(mobilellm_result_top_logprobs(result, 30, &n_top) == NULL && n_top == 0);

  /* Two at once: the same again, and another sample. */
  both[0] = both[1] = params;
  both[1].sample = 1;
  memset(&shown, 0, sizeof(shown));
  shown.max_pieces = SIZE_MAX;
  CHECK(mobilellm_model_generate_all(model, both, 2, show, &shown, many) == MOBILELLM_OK);
  CHECK(memcmp(mobilellm_result_ids(many[0], NULL), ids, n_ids * sizeof(*ids)) == 0);
  CHECK(memcmp(mobilellm_result_ids(many[1], NULL), ids, n_ids * sizeof(*ids)) != 0);
  CHECK(mobilellm_result_text(many[1]).length == shown.length[1]);
  CHECK(memcmp(mobilellm_result_text(many[1]).data, shown.text[1], shown.length[1]) == 0);
  mobilellm_result_free(many[0]);
  mobilellm_result_free(many[1]);
  CHECK(mobilellm_model_generate_all(model, NULL, 0, NULL, NULL, NULL) == MOBILELLM_OK);

  /* Cancelled by the callback: a result, no error. */
  memset(&shown, 0, sizeof(shown));
  shown.max_pieces = 2;
  CHECK(mobilellm_model_generate(model, &params, show, &shown, &cancelled) == MOBILELLM_OK);
  CHECK(shown.n_pieces == 2);
  CHECK(mobilellm_result_get_info(cancelled).end == MOBILELLM_END_CANCELLED);
  CHECK(mobilellm_result_get_info(cancelled).completion_tokens < 30);
  mobilellm_result_free(cancelled);

  /* Cancelled by the flag. */
  CHECK(mobilellm_cancel_flag_new(&flag) == MOBILELLM_OK);
  mobilellm_cancel_flag_set(flag, true);
  params.cancel = flag;
  CHECK(mobilellm_model_generate(model, &params, NULL, NULL, &cancelled) == MOBILELLM_OK);
  CHECK(mobilellm_result_get_info(cancelled).end == MOBILELLM_END_CANCELLED);
  mobilellm_result_free(cancelled);
  mobilellm_cancel_flag_set(flag, false);
  CHECK(mobilellm_model_generate(model, &params, NULL, NULL, &cancelled) == MOBILELLM_OK);
  CHECK(mobilellm_result_get_info(cancelled).end == MOBILELLM_END_LENGTH);
  mobilellm_result_free(cancelled);
  mobilellm_cancel_flag_free(flag);
  mobilellm_result_free(result);
}

static void test_request_members(mobilellm_model* model) {
  const mobilellm_message messages[] = {{{"user", 4}, {"What is 2+2?", 12}}};
  const mobilellm_logit_bias bias[] = {{600, 100.0}};
  mobilellm_generate_params params = sampled_params();
  mobilellm_result *first = NULL, *second = NULL;
  mobilellm_text stop[2] = {{NULL, 0}, {NULL, 0}};
  int32_t ids[64];
  size_t n_ids = 0;

  CHECK(mobilellm_model_generate(model, &params, NULL, NULL, &first) == MOBILELLM_OK);
  /* The same prompt as messages and as ids. */
  params.prompt = mobilellm_text_from(NULL);
  params.messages = messages;
  params.n_messages = 1;
  CHECK(mobilellm_model_generate(model, &params, NULL, NULL, &second) == MOBILELLM_OK);
  CHECK(equal(mobilellm_result_text(second), mobilellm_result_text(first).data));
  mobilellm_result_free(second);
  CHECK(mobilellm_model_preview_ids(model, &params, ids, 64, &n_ids) == MOBILELLM_OK);
  params.messages = NULL;
  params.n_messages = 0;
  params.prompt_ids = ids;
  params.n_prompt_ids = n_ids;
  CHECK(mobilellm_model_generate(model, &params, NULL, NULL, &second) == MOBILELLM_OK);
  CHECK(equal(mobilellm_result_text(second), mobilellm_result_text(first).data));
  mobilellm_result_free(second);

  /* A system text, an empty one included, changes the prompt. */
  params = sampled_params();
  params.system = mobilellm_text_from("");
  CHECK(mobilellm_model_preview_ids(model, &params, NULL, 0, &n_ids) == MOBILELLM_OK);
  CHECK(n_ids > (size_t)mobilellm_result_get_info(first).prompt_tokens);

  /* Bias leads to one token; its text is a stop string then. */
  params = sampled_params();
  params.sampling.logit_bias = bias;
  params.sampling.n_logit_bias = 1;
  CHECK(mobilellm_model_generate(model, &params, NULL, NULL, &second) == MOBILELLM_OK);
  CHECK(mobilellm_result_ids(second, NULL)[0] == 600 && mobilellm_result_ids(second, NULL)[29] == 600);
  stop[1].data = mobilellm_result_text(second).data;
  stop[1].length = 2;
  params.stop = stop;
  params.n_stop = 2;
  mobilellm_result_free(first);
  CHECK(mobilellm_model_generate(model, &params, NULL, NULL, &first) == MOBILELLM_OK);
  CHECK(mobilellm_result_get_info(first).cause == MOBILELLM_CAUSE_STOP_STRING);
  CHECK(mobilellm_result_get_info(first).end == MOBILELLM_END_STOP);
  CHECK(mobilellm_result_text(first).length == 0 && mobilellm_result_stop_string(first).length == 2);
  mobilellm_result_free(first);
  mobilellm_result_free(second);

  params = sampled_params();
  params.sampling.logit_bias = bias;
  params.sampling.n_logit_bias = 1;
  params.ignore_eos = false;
  params.extra_eos_ids = &bias[0].id;
  params.n_extra_eos_ids = 1;
  CHECK(mobilellm_model_generate(model, &params, NULL, NULL, &first) == MOBILELLM_OK);
  CHECK(mobilellm_result_get_info(first).cause == MOBILELLM_CAUSE_EOS);
  CHECK(mobilellm_result_get_info(first).completion_tokens == 1);
  mobilellm_result_free(first);
}

static void test_request_errors(mobilellm_model* model) {
  static int32_t long_prompt[600];
  mobilellm_generate_params params;
  mobilellm_generate_params both[2];
  mobilellm_result* result = (mobilellm_result*)&params;
  mobilellm_result* results[2] = {result, result};

#define CHECK_PARAMS_INVALID(change, part)                                              \
  do {                                                                                  \
    params = sampled_params();                                                          \
    change;                                                                             \
    CHECK_INVALID(mobilellm_model_generate(model, &params, NULL, NULL, &result), part); \
    CHECK(result == NULL);                                                              \
  } while (0)

  CHECK_PARAMS_INVALID(params.struct_size = 1, "mobilellm_generate_params: struct_size is 1");
  CHECK_PARAMS_INVALID(params.prompt.data = NULL, "prompt: got NULL with a length of 12");
  CHECK_PARAMS_INVALID(params.prompt.length = SIZE_MAX, "prompt: a length");
  CHECK_PARAMS_INVALID(params.n_messages = 1, "messages: got NULL");
  CHECK_PARAMS_INVALID(params.n_prompt_ids = 3, "prompt_ids: got NULL");
  CHECK_PARAMS_INVALID(params.n_stop = 3, "stop: got NULL");
  CHECK_PARAMS_INVALID(params.n_extra_eos_ids = 3, "extra_eos_ids: got NULL");
  CHECK_PARAMS_INVALID(params.sampling.n_logit_bias = 3, "logit_bias: got NULL");
  CHECK_PARAMS_INVALID(params.sampling.n_logit_bias = SIZE_MAX, "logit_bias: a length");
  CHECK_PARAMS_INVALID(params.system.length = 3, "system: got NULL");
  CHECK_PARAMS_INVALID(params.messages_json = mobilellm_text_from("[]"), "only one");
  CHECK_PARAMS_INVALID(params.max_tokens = -2, "max_tokens: got -2");
  CHECK_PARAMS_INVALID(params.n_logprobs = 21, "n_logprobs: got 21");
  CHECK_PARAMS_INVALID(params.n_logprobs = -2, "n_logprobs: got -2");
  CHECK_PARAMS_INVALID(params.thinking_budget = -2, "thinking_budget");
  CHECK_PARAMS_INVALID(params.loop_guard = (mobilellm_loop_guard)3, "loop_guard: got 3");
  CHECK_PARAMS_INVALID(params.sampling.temperature = -1, "temperature");
  CHECK_PARAMS_INVALID(params.now = mobilellm_text_from("noon"), "noon");

  params = mobilellm_generate_default_params();
  params.prompt_ids = long_prompt;
  params.n_prompt_ids = 600;
  CHECK(failed_with(mobilellm_model_generate(model, &params, NULL, NULL, &result), MOBILELLM_ERROR_CONTEXT_EXCEEDED,
                    "600"));
  CHECK_INVALID(mobilellm_model_generate(model, &params, NULL, NULL, NULL), "out: got NULL");

  both[0] = both[1] = sampled_params();
  both[1].struct_size = 0;
  CHECK_INVALID(mobilellm_model_generate_all(model, both, 2, NULL, NULL, results), "struct_size");
  CHECK(results[0] == NULL && results[1] == NULL);
  CHECK_INVALID(mobilellm_model_generate_all(model, NULL, 2, NULL, NULL, results), "requests: got NULL");
  CHECK_INVALID(mobilellm_model_generate_all(model, both, 2, NULL, NULL, NULL), "results: got NULL");
  CHECK_INVALID(mobilellm_model_generate_all(model, both, SIZE_MAX, NULL, NULL, results), "impossible");
}

static mobilellm_model* reentered_model;
static bool reenter(const mobilellm_piece* piece, void* user_data) {
  mobilellm_result* result = NULL;
  (void)piece;
  *(mobilellm_status*)user_data = mobilellm_model_generate(reentered_model, NULL, NULL, NULL, &result);
  return false;
}

static void test_callback_may_not_generate(mobilellm_model* model) {
  mobilellm_generate_params params = sampled_params();
  mobilellm_status status = MOBILELLM_OK;
  mobilellm_result* result = NULL;
  reentered_model = model;
  CHECK(mobilellm_model_generate(model, &params, reenter, &status, &result) == MOBILELLM_OK);
  CHECK_INVALID(status, "callback");
  mobilellm_result_free(result);
}

static void count_message(mobilellm_log_level level, mobilellm_text message, void* user_data) {
  CHECK(level >= MOBILELLM_LOG_DEBUG && level <= MOBILELLM_LOG_WARNING && message.data != NULL);
  ++*(size_t*)user_data;
}

int main(int argc, char** argv) {
  mobilellm_model* model = NULL;
  mobilellm_tokenizer* tokenizer = NULL;
  mobilellm_chat_format* format = NULL;
  mobilellm_model_params params = mobilellm_model_default_params();
  size_t n_messages = 0;
  if (argc != 2) {
    fprintf(stderr, "usage: c_api_test MODEL\n");
    return 2;
  }
  mobilellm_log_set_callback(count_message, &n_messages);
  test_names();
  test_load_errors(argv[1]);
  test_null_handles();

  params.n_threads = 2;
  params.context = 500;
  CHECK(params.speculation == MOBILELLM_SPECULATION_AUTO && params.max_draft == 32);
  params.max_draft = 0;
  CHECK_INVALID(mobilellm_model_load(argv[1], strlen(argv[1]), &params, &model), "max_draft: got 0");
  params.max_draft = 4;
  params.draft_model.data = argv[1];
  params.draft_model.length = strlen(argv[1]);
  CHECK(mobilellm_model_load(argv[1], strlen(argv[1]), &params, &model) == MOBILELLM_OK);
  if (model == NULL) return 1;
  test_info(model, argv[1]);
  test_generate(model);
  test_request_members(model);
  test_request_errors(model);
  test_callback_may_not_generate(model);

  /* Handles made from a model. */
  CHECK_INVALID(mobilellm_model_get_tokenizer(model, NULL), "out: got NULL");
  CHECK_INVALID(mobilellm_model_get_chat_format(model, NULL), "out: got NULL");
  CHECK(mobilellm_model_get_tokenizer(model, &tokenizer) == MOBILELLM_OK);
  CHECK(mobilellm_model_get_chat_format(model, &format) == MOBILELLM_OK);
  test_tokenizer(tokenizer);
  test_chat_format(format, model);
  mobilellm_model_free(model);
  test_tokenizer(tokenizer);
  mobilellm_tokenizer_free(tokenizer);
  mobilellm_chat_format_free(format);

  /* And from files alone. */
  CHECK(mobilellm_tokenizer_load(argv[1], strlen(argv[1]), &tokenizer) == MOBILELLM_OK);
  test_tokenizer(tokenizer);
  mobilellm_tokenizer_free(tokenizer);
  CHECK(mobilellm_chat_format_load(argv[1], strlen(argv[1]), &format) == MOBILELLM_OK);
  mobilellm_chat_format_free(format);
  mobilellm_log_set_callback(NULL, NULL);

  if (n_failures > 0) fprintf(stderr, "%d checks failed\n", n_failures);
  return n_failures > 0 ? 1 : 0;
}
