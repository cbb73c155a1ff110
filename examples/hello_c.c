/* The C API: counts the tokens of a prompt and streams an answer: hello_c MODEL [PROMPT] */
#include <mobilellm/c_api.h>
#include <stdio.h>
#include <string.h>

static bool print_piece(const mobilellm_piece* piece, void* user_data) {
  FILE* out = user_data;
  return fwrite(piece->text.data, 1, piece->text.length, out) == piece->text.length && fflush(out) == 0;
}

static int report(const char* what) {
  const mobilellm_text message = mobilellm_last_error();
  fprintf(stderr, "hello_c: %s: %.*s\n", what, (int)message.length, message.data);
  return 1;
}

static int run(mobilellm_model* model, const char* prompt) {
  mobilellm_tokenizer* tokenizer = NULL;
  mobilellm_result* result = NULL;
  mobilellm_result_info info;
  size_t n_ids = 0;
  mobilellm_generate_params params = mobilellm_generate_default_params();

  if (mobilellm_model_get_tokenizer(model, &tokenizer) != MOBILELLM_OK) return report("tokenizer");
  /* No buffer: only the number of ids is wanted. */
  if (mobilellm_tokenizer_encode(tokenizer, prompt, strlen(prompt), NULL, NULL, 0, &n_ids) != MOBILELLM_OK) {
    mobilellm_tokenizer_free(tokenizer);
    return report("encode");
  }
  mobilellm_tokenizer_free(tokenizer);

  params.prompt = mobilellm_text_from(prompt);
  params.sampling = mobilellm_model_get_sampling_params(model);
  params.max_tokens = 64;
  if (mobilellm_model_generate(model, &params, print_piece, stdout, &result) != MOBILELLM_OK) return report("generate");

  info = mobilellm_result_get_info(result);
  printf("\n");
  fprintf(stderr, "%zu tokens of text, %lld with the template, %lld generated, ended by %s\n", n_ids,
          (long long)info.prompt_tokens, (long long)info.completion_tokens, mobilellm_cause_name(info.cause));
  mobilellm_result_free(result);
  return 0;
}

int main(int argc, char** argv) {
  mobilellm_model* model = NULL;
  int status;
  if (argc < 2) {
    fprintf(stderr, "usage: hello_c MODEL [PROMPT]\n");
    return 2;
  }
  if (mobilellm_model_load(argv[1], strlen(argv[1]), NULL, &model) != MOBILELLM_OK) return report("load");
  status = run(model, argc > 2 ? argv[2] : "What is 17 * 23?");
  mobilellm_model_free(model);
  return status;
}
