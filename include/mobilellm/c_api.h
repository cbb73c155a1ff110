/// The C API: the same as the C++ one, behind opaque handles. C99 or later, and C++.
///
///     mobilellm_model *model = NULL;
///     mobilellm_generate_params params = mobilellm_generate_default_params();
///     mobilellm_result *result = NULL;
///     params.prompt = mobilellm_text_from("What is 17 * 23?");
///     if (mobilellm_model_load(path, strlen(path), NULL, &model) != MOBILELLM_OK ||
///         mobilellm_model_generate(model, &params, NULL, NULL, &result) != MOBILELLM_OK)
///       fprintf(stderr, "%s\n", mobilellm_last_error().data);
///     else
///       puts(mobilellm_result_text(result).data);
///     mobilellm_result_free(result);
///     mobilellm_model_free(model);
///
/// Rules:
/// - Functions that can fail return mobilellm_status; when it is not MOBILELLM_OK, mobilellm_last_error() tells why and
///   outputs are set to NULL or 0 (but see MOBILELLM_ERROR_BUFFER_TOO_SMALL). No exception crosses this border.
/// - Whoever gets a handle frees it with its `_free` function, which accepts NULL. Handles from one another stay valid
///   after the first is freed: they share what they need.
/// - Texts are UTF-8, given by pointer and length in bytes; they need no terminating zero. Texts that the library gives
///   out belong to their handle, live as long as it, and do end with a zero that is not counted.
/// - Parameter structures come from their `_default_params` function, which also sets struct_size; then change members.
///   Where a pointer to parameters is taken, NULL means the defaults. What they point to is read during the call only.
/// - Functions may be called from any thread. Generating calls on one model wait for each other. A handle must not be
///   freed while another thread uses it. Functions without a status return 0, NULL or an empty text for NULL handles.
/// - Buffers to fill are given by pointer and capacity, and the size needed always comes back. Capacity 0 (with any
///   pointer) only asks for the size. A capacity that is too small is MOBILELLM_ERROR_BUFFER_TOO_SMALL, and nothing is
///   written. No terminating zero is written.
/// Before version 1.0 a minor version may change this API.
#ifndef MOBILELLM_C_API_H
#define MOBILELLM_C_API_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mobilellm/export.h"
#include "mobilellm/version.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Errors, version, log ---------------------------------------------------------------------------------------- */

typedef enum mobilellm_status {
  MOBILELLM_OK = 0,
  MOBILELLM_ERROR_INVALID_ARGUMENT = 1,  ///< A value passed by the caller is out of range or malformed.
  MOBILELLM_ERROR_NOT_FOUND = 2,         ///< A file, tokenizer, template or name does not exist.
  MOBILELLM_ERROR_IO = 3,                ///< The operating system refused to read or write.
  MOBILELLM_ERROR_CORRUPT_DATA = 4,      ///< A file breaks the rules of its format.
  MOBILELLM_ERROR_UNSUPPORTED = 5,       ///< Valid input that the library cannot handle.
  MOBILELLM_ERROR_RESOURCE_LIMIT = 6,    ///< A limit would be exceeded, or memory ran out.
  MOBILELLM_ERROR_CONTEXT_EXCEEDED = 7,  ///< The prompt does not fit the context.
  MOBILELLM_ERROR_TEMPLATE = 8,          ///< A chat template failed or refused its input.
  MOBILELLM_ERROR_CANCELLED = 9,         ///< Loading was given up by the callback.
  MOBILELLM_ERROR_INTERNAL = 10,         ///< A defect of the library.
  MOBILELLM_ERROR_BUFFER_TOO_SMALL = 11  ///< The size needed was set; call again with a larger buffer.
} mobilellm_status;

/// Bytes that belong to someone else. data may be NULL when length is 0.
typedef struct mobilellm_text {
  const char* data;
  size_t length;
} mobilellm_text;

/// A C string as a text, without a copy. NULL gives the empty text with data NULL.
MOBILELLM_API mobilellm_text mobilellm_text_from(const char* c_string);

/// Message of the last call of this thread that failed. Valid until the next call of this thread that fails.
MOBILELLM_API mobilellm_text mobilellm_last_error(void);
/// Stable lower-case name, e.g. "corrupt_data"; "ok" for MOBILELLM_OK, "unknown" for other numbers.
MOBILELLM_API const char* mobilellm_status_name(mobilellm_status status);

/// Version of the library, e.g. "0.1.0"; MOBILELLM_VERSION_STRING is that of the headers.
MOBILELLM_API const char* mobilellm_version_string(void);
MOBILELLM_API int mobilellm_version_number(void);

typedef enum mobilellm_log_level {
  MOBILELLM_LOG_DEBUG = 0,
  MOBILELLM_LOG_INFO = 1,
  MOBILELLM_LOG_WARNING = 2
} mobilellm_log_level;
/// Called from any thread that uses the library. `message` ends without a line break and is valid during the call.
typedef void (*mobilellm_log_callback)(mobilellm_log_level level, mobilellm_text message, void* user_data);
/// Sets the one receiver of messages of this process; NULL drops them (the default). Call it while no other thread uses
/// the library.
MOBILELLM_API void mobilellm_log_set_callback(mobilellm_log_callback callback, void* user_data);

/* ---- Handles ----------------------------------------------------------------------------------------------------- */

typedef struct mobilellm_model mobilellm_model;              ///< Weights, tokenizer, template, caches.
typedef struct mobilellm_tokenizer mobilellm_tokenizer;      ///< Immutable.
typedef struct mobilellm_chat_format mobilellm_chat_format;  ///< A chat template; immutable.
typedef struct mobilellm_result mobilellm_result;            ///< What one request gave; immutable.
typedef struct mobilellm_cancel_flag mobilellm_cancel_flag;  ///< Ends requests from another thread.

/* ---- Model ------------------------------------------------------------------------------------------------------- */

/// `fraction` in [0, 1]. Return true to go on, false to give up.
typedef bool (*mobilellm_progress_callback)(double fraction, void* user_data);

/// How tokens are guessed ahead to save time. Results do not depend on it.
typedef enum mobilellm_speculation {
  MOBILELLM_SPECULATION_OFF = 0,
  MOBILELLM_SPECULATION_LOOKUP = 1,  ///< From the text so far and from other samples of the same prompt.
  MOBILELLM_SPECULATION_AUTO = 2     ///< The same, and by draft_model if there is one. The default.
} mobilellm_speculation;

typedef struct mobilellm_model_params {
  size_t struct_size;
  int32_t n_threads;      ///< 0 .. 1024; 0 = every core this process may use. Results do not depend on it.
  int64_t context;        ///< Most tokens of one sequence, prompt included; 0 = the model's maximum.
  int64_t max_kv_tokens;  ///< Bound on cached tokens over all requests of a call; 0 = none but memory.
  int32_t prefill_chunk;  ///< Prompt tokens computed per step, 1 or more. Results do not depend on it.
  mobilellm_progress_callback on_progress;  ///< May be NULL.
  void* progress_user_data;
  bool exact;  ///< f32 activations in every product, as the reference implementations compute; slower.
  mobilellm_speculation speculation;
  int32_t max_draft;           ///< Most tokens guessed at once for one sequence, 1 .. 64; fewer where that is faster.
  mobilellm_text draft_model;  ///< Path of a smaller model with the same tokenizer that guesses; empty = none.
} mobilellm_model_params;
MOBILELLM_API mobilellm_model_params mobilellm_model_default_params(void);

/// Opens a Hugging Face or MLX folder, or a .gguf file. The files must stay unchanged while the model lives.
MOBILELLM_API mobilellm_status mobilellm_model_load(const char* path, size_t path_length,
                                                    const mobilellm_model_params* params, mobilellm_model** out);
MOBILELLM_API void mobilellm_model_free(mobilellm_model* model);

typedef struct mobilellm_model_info {
  mobilellm_text path;
  mobilellm_text format;        ///< "safetensors", "mlx" or "gguf".
  mobilellm_text architecture;  ///< For people; programs should not depend on it.
  int64_t parameters;           ///< A table shared by input and output counted once.
  int32_t n_layers;
  int32_t d_model;
  int32_t vocab_size;
  int64_t max_context;        ///< Positions the model was made for.
  int64_t context;            ///< Most tokens of one sequence here, prompt included.
  size_t kv_bytes_per_token;  ///< Memory that each cached token takes.
  int32_t bos_id;             ///< -1 = none.
  const int32_t* eos_ids;     ///< n_eos_ids of them; belongs to the model, as the texts do.
  size_t n_eos_ids;
  bool has_tokenizer;
  bool has_chat_format;
} mobilellm_model_info;
/// All zero for NULL.
MOBILELLM_API mobilellm_model_info mobilellm_model_get_info(const mobilellm_model* model);

/* ---- Tokenizer --------------------------------------------------------------------------------------------------- */

/// Reads the tokenizer alone, from a folder that may hold nothing else or from a .gguf file.
MOBILELLM_API mobilellm_status mobilellm_tokenizer_load(const char* path, size_t path_length,
                                                        mobilellm_tokenizer** out);
/// The model's own; a new handle that keeps the model in memory. MOBILELLM_ERROR_NOT_FOUND when it has none.
MOBILELLM_API mobilellm_status mobilellm_model_get_tokenizer(const mobilellm_model* model, mobilellm_tokenizer** out);
MOBILELLM_API void mobilellm_tokenizer_free(mobilellm_tokenizer* tokenizer);

typedef struct mobilellm_tokenize_params {
  size_t struct_size;
  bool add_special;    ///< Add what the model expects around a text (usually BOS in front).
  bool parse_special;  ///< Special tokens written in the text become their ids; else they stay ordinary text.
} mobilellm_tokenize_params;
/// Both off.
MOBILELLM_API mobilellm_tokenize_params mobilellm_tokenize_default_params(void);

/// Fills `ids`; n_ids becomes the number of ids.
MOBILELLM_API mobilellm_status mobilellm_tokenizer_encode(const mobilellm_tokenizer* tokenizer, const char* text,
                                                          size_t text_length, const mobilellm_tokenize_params* params,
                                                          int32_t* ids, size_t capacity, size_t* n_ids);
/// Fills `text` with well-formed UTF-8; text_length becomes the number of bytes. Ids without a token are left out.
MOBILELLM_API mobilellm_status mobilellm_tokenizer_decode(const mobilellm_tokenizer* tokenizer, const int32_t* ids,
                                                          size_t n_ids, bool skip_special, char* text, size_t capacity,
                                                          size_t* text_length);
/// Raw bytes that a token adds to a text, maybe part of a character; none for an id without a token.
MOBILELLM_API mobilellm_status mobilellm_tokenizer_token_bytes(const mobilellm_tokenizer* tokenizer, int32_t id,
                                                               char* bytes, size_t capacity, size_t* n_bytes);
/// Id of a token as written in the vocabulary, e.g. "<|eot_id|>"; -1 = none.
MOBILELLM_API int32_t mobilellm_tokenizer_find(const mobilellm_tokenizer* tokenizer, const char* token_text,
                                               size_t token_text_length);
MOBILELLM_API bool mobilellm_tokenizer_is_special(const mobilellm_tokenizer* tokenizer, int32_t id);
/// Highest id + 1.
MOBILELLM_API size_t mobilellm_tokenizer_vocab_size(const mobilellm_tokenizer* tokenizer);
/// -1 = none.
MOBILELLM_API int32_t mobilellm_tokenizer_bos_id(const mobilellm_tokenizer* tokenizer);

/* ---- Chat format ------------------------------------------------------------------------------------------------- */

/// Usual roles: "system", "user", "assistant", "tool".
typedef struct mobilellm_message {
  mobilellm_text role;
  mobilellm_text content;
} mobilellm_message;

/// Reads the chat template alone, from a folder that may hold nothing else or from a .gguf file.
MOBILELLM_API mobilellm_status mobilellm_chat_format_load(const char* path, size_t path_length,
                                                          mobilellm_chat_format** out);
/// The model's own; a new handle that keeps the model in memory. MOBILELLM_ERROR_NOT_FOUND when it has none.
MOBILELLM_API mobilellm_status mobilellm_model_get_chat_format(const mobilellm_model* model,
                                                               mobilellm_chat_format** out);
MOBILELLM_API void mobilellm_chat_format_free(mobilellm_chat_format* format);

typedef struct mobilellm_render_params {
  size_t struct_size;
  bool add_generation_prompt;         ///< End with the header of the answer to come.
  mobilellm_text messages_json;       ///< Array of message objects, used when n_messages is 0.
  mobilellm_text tools_json;          ///< Array of tool descriptions; empty = none.
  mobilellm_text template_args_json;  ///< Object of further variables of the template; empty = none.
  mobilellm_text now;  ///< What the template sees as the time, "2025-09-12 10:20:30"; empty = the machine's clock.
} mobilellm_render_params;
/// add_generation_prompt on, the texts empty.
MOBILELLM_API mobilellm_render_params mobilellm_render_default_params(void);

/// Fills `text`; text_length becomes the number of bytes.
MOBILELLM_API mobilellm_status mobilellm_chat_format_render(const mobilellm_chat_format* format,
                                                            const mobilellm_message* messages, size_t n_messages,
                                                            const mobilellm_render_params* params, char* text,
                                                            size_t capacity, size_t* text_length);

/* ---- Generation -------------------------------------------------------------------------------------------------- */

/// A flag that any thread may set; requests that were given it then end with MOBILELLM_END_CANCELLED.
MOBILELLM_API mobilellm_status mobilellm_cancel_flag_new(mobilellm_cancel_flag** out);
MOBILELLM_API void mobilellm_cancel_flag_set(mobilellm_cancel_flag* flag, bool is_cancelled);
MOBILELLM_API void mobilellm_cancel_flag_free(mobilellm_cancel_flag* flag);

typedef struct mobilellm_logit_bias {
  int32_t id;
  double bias;  ///< Added to the token's logit; -100 or less bans it.
} mobilellm_logit_bias;

/// How the next token is chosen. Order: logit_bias, penalties, temperature, then the filters.
typedef struct mobilellm_sampling_params {
  double temperature;         ///< >= 0; 0 = greedy: the most likely token.
  int64_t top_k;              ///< The k most likely tokens; 0 or -1 = off.
  double top_p;               ///< The most likely tokens up to this mass, in (0, 1]; 1 = off.
  double min_p;               ///< Tokens of at least min_p * the top probability, in [0, 1]; 0 = off.
  double repetition_penalty;  ///< > 0; above 1 makes tokens already generated less likely; 1 = off.
  double frequency_penalty;   ///< Taken from a logit per earlier use in the output, in [-2, 2].
  double presence_penalty;    ///< Taken from a logit once it was used in the output, in [-2, 2].
  bool penalize_prompt;       ///< repetition_penalty counts tokens of the prompt, too.
  const mobilellm_logit_bias* logit_bias;
  size_t n_logit_bias;
  uint64_t seed;  ///< The same seed gives the same output, whatever else runs at the same time.
} mobilellm_sampling_params;
/// Every rule off: greedy decoding.
MOBILELLM_API mobilellm_sampling_params mobilellm_sampling_default_params(void);
/// What the model's generation_config.json recommends; the defaults where it says nothing, or for NULL.
MOBILELLM_API mobilellm_sampling_params mobilellm_model_get_sampling_params(const mobilellm_model* model);

typedef enum mobilellm_loop_guard {
  MOBILELLM_LOOP_GUARD_AUTO = 0,  ///< On when decoding is greedy and the output may be long.
  MOBILELLM_LOOP_GUARD_ON = 1,
  MOBILELLM_LOOP_GUARD_OFF = 2
} mobilellm_loop_guard;

/// One generation. Give one of prompt, messages, messages_json and prompt_ids.
typedef struct mobilellm_generate_params {
  size_t struct_size;
  mobilellm_text prompt;  ///< With the template, the text of one user message; without, the raw text after BOS.
  const mobilellm_message* messages;
  size_t n_messages;
  mobilellm_text messages_json;  ///< Array of message objects, for those with more than role and content.
  const int32_t* prompt_ids;     ///< The whole prompt as token ids.
  size_t n_prompt_ids;

  bool use_chat_template;             ///< The template is applied when this is set and the model has one.
  bool final_only;                    ///< Ask for the boxed answer alone, when there is no system text.
  mobilellm_text system;              ///< Replaces the system message of `messages`; data NULL = none given.
  mobilellm_text tools_json;          ///< See mobilellm_render_params.
  mobilellm_text template_args_json;  ///< See mobilellm_render_params.
  mobilellm_text now;                 ///< See mobilellm_render_params.
  mobilellm_text prefill_response;    ///< Beginning of the answer; not part of the result's text.

  mobilellm_sampling_params sampling;
  int64_t max_tokens;          ///< Reasoning included; -1 = up to the context end.
  const mobilellm_text* stop;  ///< End before any of these texts; they are not shown. Empty ones are ignored.
  size_t n_stop;
  const int32_t* extra_eos_ids;
  size_t n_extra_eos_ids;
  bool ignore_eos;                  ///< Go on after an end-of-sequence token.
  bool stop_at_boxed;               ///< End right after the brace that closes a \boxed{...}.
  bool split_reasoning;             ///< False: all text is answer, think tags included.
  int64_t thinking_budget;          ///< Most tokens of reasoning; then the model is led to its answer. -1 = no bound.
  mobilellm_loop_guard loop_guard;  ///< End an output that repeats itself.
  int32_t n_logprobs;               ///< Log-probabilities of each token and of the n most likely, 0 .. 20; -1 = none.
  uint64_t sample;                  ///< Number of this sample; samples of one seed differ by it.
  const mobilellm_cancel_flag* cancel;  ///< Looked at before every step. Must outlive the call. May be NULL.
} mobilellm_generate_params;
MOBILELLM_API mobilellm_generate_params mobilellm_generate_default_params(void);

/// The prompt that a request would use, as text, without running it.
MOBILELLM_API mobilellm_status mobilellm_model_preview_text(const mobilellm_model* model,
                                                            const mobilellm_generate_params* params, char* text,
                                                            size_t capacity, size_t* text_length);
/// The same as token ids.
MOBILELLM_API mobilellm_status mobilellm_model_preview_ids(const mobilellm_model* model,
                                                           const mobilellm_generate_params* params, int32_t* ids,
                                                           size_t capacity, size_t* n_ids);

/// Text that is certain to be part of the output, in whole UTF-8 characters; never empty. Valid during the callback.
typedef struct mobilellm_piece {
  size_t index;       ///< Which request of mobilellm_model_generate_all; 0 for mobilellm_model_generate.
  bool is_reasoning;  ///< Inside of think tags.
  mobilellm_text text;
} mobilellm_piece;
/// Called from the thread that generates. Return true to go on, false to cancel this piece's request. It must not
/// generate with the same model, and must return: no longjmp, no exception.
typedef bool (*mobilellm_piece_callback)(const mobilellm_piece* piece, void* user_data);

/// `on_piece` may be NULL. A cancelled request is no error: it gives its result so far.
MOBILELLM_API mobilellm_status mobilellm_model_generate(mobilellm_model* model, const mobilellm_generate_params* params,
                                                        mobilellm_piece_callback on_piece, void* user_data,
                                                        mobilellm_result** out);
/// Several requests at once, faster than one after the other; each result equals that of its request alone.
/// `results` has room for n_requests handles, each to be freed; all are NULL when the call fails.
MOBILELLM_API mobilellm_status mobilellm_model_generate_all(mobilellm_model* model,
                                                            const mobilellm_generate_params* requests,
                                                            size_t n_requests, mobilellm_piece_callback on_piece,
                                                            void* user_data, mobilellm_result** results);

/* ---- Result ------------------------------------------------------------------------------------------------------ */

MOBILELLM_API void mobilellm_result_free(mobilellm_result* result);

/// How a generation ended.
typedef enum mobilellm_end {
  MOBILELLM_END_STOP = 1,       ///< The model or a stop rule ended it.
  MOBILELLM_END_LENGTH = 2,     ///< max_tokens or the context end.
  MOBILELLM_END_CANCELLED = 3,  ///< By the callback or the cancel flag.
  MOBILELLM_END_LOOP = 4        ///< The output repeated itself.
} mobilellm_end;

/// What exactly ended it.
typedef enum mobilellm_cause {
  MOBILELLM_CAUSE_NONE = 0,             ///< Cancelled.
  MOBILELLM_CAUSE_EOS = 1,              ///< An end-of-sequence token.
  MOBILELLM_CAUSE_STOP_STRING = 2,      ///< See mobilellm_result_stop_string.
  MOBILELLM_CAUSE_BOXED = 3,            ///< A boxed answer was complete (stop_at_boxed).
  MOBILELLM_CAUSE_THINKING_BUDGET = 4,  ///< The budget was used up with a complete boxed answer at hand.
  MOBILELLM_CAUSE_MAX_TOKENS = 5,
  MOBILELLM_CAUSE_CONTEXT_END = 6,
  MOBILELLM_CAUSE_ANSWER_BOUND = 7,  ///< The answer that was led to did not end within its own bound.
  MOBILELLM_CAUSE_LOOP = 8
} mobilellm_cause;
/// "stop", "length", "cancelled" or "loop"; "unknown" for other numbers.
MOBILELLM_API const char* mobilellm_end_name(mobilellm_end end);
/// "none", "eos", "stop_string", "boxed", "thinking_budget", "max_tokens", "context_end", "answer_bound" or "loop";
/// "unknown" for other numbers.
MOBILELLM_API const char* mobilellm_cause_name(mobilellm_cause cause);

typedef struct mobilellm_result_info {
  mobilellm_end end;
  mobilellm_cause cause;
  int64_t prompt_tokens;
  int64_t completion_tokens;  ///< The number of output ids.
  int64_t reasoning_tokens;   ///< Those of them inside of the reasoning.
  int64_t forced_tokens;      ///< Those of them put in by the thinking budget or the loop guard.
  double prompt_seconds;      ///< From the start to the first token.
  double decode_seconds;      ///< From the first token to the last.
} mobilellm_result_info;
/// All zero for NULL.
MOBILELLM_API mobilellm_result_info mobilellm_result_get_info(const mobilellm_result* result);

/// Everything generated, think tags included, stop string and end-of-sequence excluded.
MOBILELLM_API mobilellm_text mobilellm_result_text(const mobilellm_result* result);
/// What stood inside of think tags.
MOBILELLM_API mobilellm_text mobilellm_result_reasoning(const mobilellm_result* result);
/// The rest; all of the text for models without think tags.
MOBILELLM_API mobilellm_text mobilellm_result_answer(const mobilellm_result* result);
/// Content of the last complete \boxed{...} that is no placeholder; data NULL when there is none.
MOBILELLM_API mobilellm_text mobilellm_result_boxed(const mobilellm_result* result);
MOBILELLM_API mobilellm_text mobilellm_result_stop_string(const mobilellm_result* result);
/// Belongs to the result; n_ids (may be NULL) becomes their number.
MOBILELLM_API const int32_t* mobilellm_result_ids(const mobilellm_result* result, size_t* n_ids);

/// Natural logarithm of a token's probability under the model itself, before penalties and temperature.
typedef struct mobilellm_token_probability {
  int32_t id;
  double logprob;
} mobilellm_token_probability;

/// Of output token `position`. False when there is none: no such position, not asked for, or a forced token.
MOBILELLM_API bool mobilellm_result_logprob(const mobilellm_result* result, size_t position, double* logprob);
/// The most likely tokens at `position`, falling; belongs to the result. n_top (may be NULL) becomes their number.
MOBILELLM_API const mobilellm_token_probability* mobilellm_result_top_logprobs(const mobilellm_result* result,
                                                                               size_t position, size_t* n_top);

#ifdef __cplusplus
}
#endif

#endif
