// mobilellm generate: a prompt answered by a model, the text streaming to standard output.
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <limits>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "cli/args.h"
#include "cli/commands/commands.h"
#include "cli/kv_flag.h"
#include "cli/line_reader.h"
#include "cli/terminal.h"
#include "pipeline/pipeline.h"

namespace mobilellm::cli {
namespace {

// Defaults of the original command line; generation_config.json comes before them, a flag before both.
constexpr double kDefaultTemperature = 0.1;
constexpr double kDefaultTopP = 0.9;
constexpr int64_t kDefaultMaxTokens = 100;
constexpr int64_t kMaxTokens = int64_t{1} << 30;

struct GenerateFlags {
  std::string model_path = ".";
  std::optional<std::string> prompt, prompt_file, system, template_args, prefill_response;
  int64_t max_tokens = kDefaultMaxTokens;
  std::optional<double> temperature, top_p, min_p, repetition_penalty;
  std::optional<int64_t> top_k, seed, logprobs;
  double frequency_penalty = 0;
  double presence_penalty = 0;
  std::vector<std::string> stop, extra_eos_tokens;
  int64_t thinking_budget = -1;
  std::string loop_guard = "auto";
  std::string kv;
  int64_t threads = 0;
  bool exact = false;
  int64_t context = 0;
  std::string speculate = "auto", draft_model;
  int64_t draft_max = 32;
  bool final_only = false;
  bool stop_at_boxed = false;
  bool extract_boxed = false;
  bool disable_chat_template = false;
  bool ignore_eos = false;
  bool print_prompt = false;
  bool verbose = false;
  bool json = false;
};

void declare(Args& args, GenerateFlags& flags) {
  args.section("model and prompt");
  args.text("--model-path,--model", "PATH", flags.model_path, "model folder or .gguf file (default: .)");
  args.text("--prompt,-p", "TEXT", flags.prompt, "the prompt; - reads standard input");
  args.text("--prompt-file,--file,-f", "FILE", flags.prompt_file, "read the prompt from a file");
  args.text("--system,--system-prompt", "TEXT", flags.system, "system message (with the chat template)");
  args.flag("--disable-chat-template,--ignore-chat-template", flags.disable_chat_template,
            "give the prompt as it is, after BOS");
  args.text("--template-args,--chat-template-config", "JSON", flags.template_args,
            "variables for the template, e.g. '{\"enable_thinking\": false}'");
  args.text("--prefill-response", "TEXT", flags.prefill_response, "beginning of the answer");
  args.flag("--print-prompt", flags.print_prompt, "show the whole prompt on standard error first");

  args.section("length and stopping");
  args.integer("--max-tokens,-n", "N", flags.max_tokens, -1, kMaxTokens,
               "most tokens to generate; -1 = up to the context end (default: 100)");
  args.list("--stop", "TEXT", flags.stop, "stop before this text; may be repeated");
  args.flag("--ignore-eos", flags.ignore_eos, "go on after an end-of-sequence token");
  args.list("--extra-eos-token", "TOKEN", flags.extra_eos_tokens, "a further end-of-sequence token; may be repeated");

  args.section("sampling (default: generation_config.json, else as shown)");
  args.number("--temperature,--temp", "T", flags.temperature, 0, 100, "0 = greedy (0.1)");
  args.number("--top-p", "P", flags.top_p, 0, 1, "most likely tokens up to this mass (0.9)");
  args.integer("--top-k", "K", flags.top_k, -1, 1 << 30, "the K most likely tokens; 0 = all (0)");
  args.number("--min-p", "P", flags.min_p, 0, 1, "tokens of at least P x the top probability (0)");
  args.number("--repetition-penalty,--repeat-penalty", "R", flags.repetition_penalty, 0.01, 100,
              "divides logits of tokens already generated (1.0)");
  args.number("--frequency-penalty", "A", flags.frequency_penalty, -2, 2, "logit -= A x count (0)");
  args.number("--presence-penalty", "A", flags.presence_penalty, -2, 2, "logit -= A once generated (0)");
  args.integer("--seed,-s", "N", flags.seed, 0, std::numeric_limits<int64_t>::max(),
               "same seed, same text (default: another each time)");

  args.section("reasoning");
  args.flag("--final-only", flags.final_only, "ask for a boxed final answer only");
  args.flag("--stop-at-boxed", flags.stop_at_boxed, "stop right after a complete \\boxed{...}");
  args.flag("--extract-boxed", flags.extract_boxed, "print only the last boxed answer (exit 3: none)");
  args.integer("--thinking-budget", "N", flags.thinking_budget, -1, kMaxTokens,
               "after N tokens of thinking lead to the answer; -1 = no bound (default)");
  args.text_or("--loop-guard", "MODE", flags.loop_guard, "on",
               "end an output that repeats itself: on, off or auto (default: auto, on for long greedy outputs)");

  args.section("machine and output");
  args.integer("--threads,-t", "N", flags.threads, 0, 1024, "threads; 0 = every usable core (default)");
  declare_kv(args, flags.kv);
  args.flag("--exact", flags.exact,
            "multiply quantized weights with unrounded activations, as the reference does; slower");
  args.integer("--ctx,--ctx-size,--max-kv-size,-c", "N", flags.context, 0, int64_t{1} << 40,
               "context in tokens; 0 = the model's (default)");
  args.text("--speculate", "MODE", flags.speculate,
            "guess tokens ahead, which changes speed only: auto, lookup (from the text so far) or off (default: auto)");
  args.text("--draft-model", "PATH", flags.draft_model,
            "a smaller model with the same tokenizer that guesses, too (with auto)");
  args.integer("--draft-max,--num-draft-tokens", "N", flags.draft_max, 1, kMaxDraft,
               "most tokens guessed at once; fewer where that is faster (default: 32)");
  args.integer("--logprobs", "N", flags.logprobs, 0, kMaxLogprobs,
               "log-probabilities of each token and the N likeliest ones");
  args.flag("--json", flags.json, "print one JSON object at the end instead of text");
  args.flag("--verbose,-v", flags.verbose, "tell on standard error what is done");
  args.example("mobilellm generate --model-path MODEL --prompt \"Hello\" --temperature 0");
  args.example("mobilellm generate --model-path MODEL --prompt - < question.txt");
  args.example("mobilellm generate --model-path MODEL --temperature 0 --final-only \\");
  args.example("  --stop-at-boxed --extract-boxed --prompt \"Compute 17 * 23.\"");
  args.note(
      "The text goes alone to standard output, one summary line to standard error. Exit status: 0 success (also "
      "at a length limit), 1 failure, 2 misuse, 3 no boxed answer, 130 or 143 interrupted.");
}

std::string read_prompt(const GenerateFlags& flags, const Args& args) {
  if (flags.prompt.has_value() == flags.prompt_file.has_value()) {
    args.fail_usage(flags.prompt ? "--prompt and --prompt-file exclude each other" : "--prompt is missing");
  }
  if (flags.prompt && *flags.prompt != "-") {
    require_utf8(*flags.prompt, "[generate] --prompt");
    return *flags.prompt;
  }
  std::string text = read_input(flags.prompt ? "-" : *flags.prompt_file);
  // The line end that editors and `echo` put at the end of a file is not part of the question.
  if (text.ends_with('\n')) text.pop_back();
  if (text.ends_with('\r')) text.pop_back();
  require_utf8(text, "[generate] " + (flags.prompt ? std::string("standard input") : *flags.prompt_file));
  return text;
}

// Variables for the template; an empty object without the flag.
Json parse_template_args(const GenerateFlags& flags, const Args& args) {
  if (!flags.template_args) return Json::object();
  Json value;
  try {
    value = Json::parse(*flags.template_args, "--template-args");
  } catch (const Error& error) {
    args.fail_usage(error.what());
  }
  if (!value.is_object()) args.fail_usage("--template-args: expected a JSON object");
  return value;
}

LoopGuardMode parse_loop_guard(const std::string& text, const Args& args) {
  if (text == "auto") return LoopGuardMode::kAuto;
  if (text == "on") return LoopGuardMode::kOn;
  if (text == "off") return LoopGuardMode::kOff;
  args.fail_usage("--loop-guard: got '" + text + "', expected on, off or auto");
}

SpeculationMode parse_speculation(const std::string& text, const Args& args) {
  if (text == "auto") return SpeculationMode::kAuto;
  if (text == "lookup") return SpeculationMode::kLookup;
  if (text == "off") return SpeculationMode::kOff;
  args.fail_usage("--speculate: got '" + text + "', expected auto, lookup or off");
}

uint64_t random_seed() {
  std::random_device device;
  // 53 bits, so that the seed survives JSON readers that keep numbers as doubles.
  return ((uint64_t{device()} << 32) | device()) >> 11;
}

SamplingParams sampling_params(const GenerateFlags& flags, const GenerationDefaults& defaults) {
  SamplingParams params;
  params.temperature = flags.temperature.value_or(defaults.temperature.value_or(kDefaultTemperature));
  params.top_p = flags.top_p.value_or(defaults.top_p.value_or(kDefaultTopP));
  params.top_k = flags.top_k.value_or(defaults.top_k.value_or(0));
  params.min_p = flags.min_p.value_or(defaults.min_p.value_or(0));
  params.repetition_penalty = flags.repetition_penalty.value_or(defaults.repetition_penalty.value_or(1));
  params.frequency_penalty = flags.frequency_penalty;
  params.presence_penalty = flags.presence_penalty;
  params.seed = flags.seed ? static_cast<uint64_t>(*flags.seed) : random_seed();
  return params;
}

GenerateRequest make_request(const GenerateFlags& flags, const Args& args, std::string prompt, const TextModel& model) {
  GenerateRequest request;
  request.prompt = std::move(prompt);
  request.use_chat_template = !flags.disable_chat_template;
  request.system = flags.system;
  request.final_only = flags.final_only;
  if (flags.template_args) request.template_kwargs = parse_template_args(flags, args);
  request.prefill_response = flags.prefill_response.value_or("");
  request.sampling = sampling_params(flags, model.defaults());
  if (flags.max_tokens >= 0) request.max_tokens = flags.max_tokens;
  request.stop = flags.stop;
  request.ignore_eos = flags.ignore_eos;
  for (const std::string& token : flags.extra_eos_tokens) {
    const std::optional<TokenId> id = model.tokenizer().find(token);
    if (!id) args.fail_usage("--extra-eos-token: the vocabulary has no token '" + token + "'");
    request.extra_eos_ids.push_back(*id);
  }
  request.stop_at_boxed = flags.stop_at_boxed;
  request.thinking_budget = flags.thinking_budget;
  request.loop_guard = parse_loop_guard(flags.loop_guard, args);
  request.split_reasoning = flags.json;  // As text, tags and all go out as the model wrote them.
  if (flags.logprobs) request.n_logprobs = static_cast<int>(*flags.logprobs);
  request.cancel = &CancelScope::flag();
  return request;
}

int64_t peak_memory_bytes() {
  rusage usage = {};
  ::getrusage(RUSAGE_SELF, &usage);
#if defined(__APPLE__)
  return usage.ru_maxrss;
#else
  return int64_t{usage.ru_maxrss} * 1024;
#endif
}

std::string summary(const GenerateResult& result, const SpeculationStats& speculation) {
  const GenerateTimings& timings = result.timings;
  const std::string guessed = speculation.n_drafted == 0 ? ""
                                                         : fmt::format(" ({} of {} guesses right)",
                                                                       speculation.n_accepted, speculation.n_drafted);
  return fmt::format(
      "prompt {} tokens, {:.1f} tokens/s | generated {} tokens, {:.1f} tokens/s{} | first token {:.3f} s | memory "
      "{:.0f} MB | stop: {}{}\n",
      result.prompt_tokens, timings.prompt_tokens_per_second, result.completion_tokens, timings.tokens_per_second,
      guessed, timings.prompt_seconds, static_cast<double>(peak_memory_bytes()) / 1e6, to_string(result.finish_reason),
      result.stop_detail == StopDetail::kNone ? "" : fmt::format(" ({})", to_string(result.stop_detail)));
}

Json token_json(const Tokenizer& tokenizer, int32_t token) {
  Json::Array bytes;
  const std::string raw = tokenizer.token_bytes(token);
  for (const char c : raw) bytes.emplace_back(static_cast<int>(static_cast<unsigned char>(c)));
  return Json::object()
      .set("id", token)
      .set("token", tokenizer.decode(std::span(&token, 1)))
      .set("bytes", Json(std::move(bytes)));
}

Json logprobs_json(const GenerateResult& result, const Tokenizer& tokenizer) {
  Json out = Json::array();
  for (const GenerateLogprob& entry : result.logprobs) {
    Json top = Json::array();
    for (const TokenLogprob& candidate : entry.top) {
      top.push(token_json(tokenizer, candidate.token).set("logprob", candidate.logprob));
    }
    out.push(token_json(tokenizer, entry.token)
                 .set("logprob", entry.logprob ? Json(*entry.logprob) : Json())
                 .set("top", std::move(top)));
  }
  return out;
}

Json ids_json(const std::vector<int32_t>& ids) {
  Json::Array array(ids.begin(), ids.end());
  return Json(std::move(array));
}

Json result_json(const TextModel& model, const GenerateRequest& request, const Prompt& prompt,
                 const GenerateResult& result) {
  const SamplingParams& sampling = request.sampling;
  const SpeculationStats speculation = model.stats().speculation;
  Json out = Json::object();
  out.set("model", model.path())
      .set("architecture", model.spec().architecture)
      .set("text", result.text)
      .set("reasoning", result.reasoning)
      .set("answer", result.answer)
      .set("boxed", result.boxed ? Json(*result.boxed) : Json())
      .set("finish_reason", to_string(result.finish_reason))
      .set("stop_detail", to_string(result.stop_detail))
      .set("stop_string", result.stop_string.empty() ? Json() : Json(result.stop_string))
      .set("usage", Json::object()
                        .set("prompt_tokens", result.prompt_tokens)
                        .set("completion_tokens", result.completion_tokens)
                        .set("reasoning_tokens", result.reasoning_tokens)
                        .set("forced_tokens", result.forced_tokens))
      .set("prompt", prompt.text)
      .set("prompt_ids", ids_json(prompt.ids))
      .set("output_ids", ids_json(result.output_ids));
  if (request.n_logprobs) out.set("logprobs", logprobs_json(result, model.tokenizer()));
  return out
      .set("sampling", Json::object()
                           .set("temperature", sampling.temperature)
                           .set("top_p", sampling.top_p)
                           .set("top_k", sampling.top_k)
                           .set("min_p", sampling.min_p)
                           .set("repetition_penalty", sampling.repetition_penalty)
                           .set("frequency_penalty", sampling.frequency_penalty)
                           .set("presence_penalty", sampling.presence_penalty)
                           .set("seed", sampling.seed))
      .set("timings", Json::object()
                          .set("first_token_seconds", result.timings.prompt_seconds)
                          .set("decode_seconds", result.timings.decode_seconds)
                          .set("prompt_tokens_per_second", result.timings.prompt_tokens_per_second)
                          .set("tokens_per_second", result.timings.tokens_per_second))
      .set("speculation", Json::object()
                              .set("steps", static_cast<int64_t>(speculation.n_steps))
                              .set("drafted", static_cast<int64_t>(speculation.n_drafted))
                              .set("accepted", static_cast<int64_t>(speculation.n_accepted)))
      .set("memory_bytes", peak_memory_bytes());
}

void print_logprobs(const GenerateResult& result, const Tokenizer& tokenizer) {
  for (const GenerateLogprob& entry : result.logprobs) {
    const auto quoted = [&tokenizer](int32_t token) {
      std::string text;
      append_json_string(text, tokenizer.decode(std::span(&token, 1)));
      return text;
    };
    std::string line =
        fmt::format("{:>8} {}", entry.logprob ? fmt::format("{:.4f}", *entry.logprob) : "forced", quoted(entry.token));
    for (const TokenLogprob& candidate : entry.top) {
      line += fmt::format("  {:.4f} {}", candidate.logprob, quoted(candidate.token));
    }
    print_status(printable(line) + "\n");
  }
}

std::unique_ptr<TextModel> load(const GenerateFlags& flags, const Args& args) {
  if (flags.verbose) print_status("Loading model and tokenizer...\n");
  ProgressBar bar("loading");
  TextModelOptions options;
  options.n_threads = static_cast<int>(flags.threads);
  options.kv_dtype = parse_kv(args, flags.kv);
  options.is_exact = flags.exact;
  options.context = flags.context;
  options.speculation.mode = parse_speculation(flags.speculate, args);
  options.draft_model = flags.draft_model;
  options.speculation.max_draft = static_cast<int>(flags.draft_max);
  options.on_progress = [&bar](double fraction) {
    bar.update(fraction);
    return true;
  };
  std::unique_ptr<TextModel> model = TextModel::load(flags.model_path, options);
  bar.clear();
  if (flags.context > model->context_limit()) {
    print_status(fmt::format("mobilellm: warning: --ctx {} is more than the model was made for; using {}\n",
                             flags.context, model->context_limit()));
  }
  return model;
}

void describe_start(const TextModel& model, const GenerateRequest& request, const Prompt& prompt) {
  const SamplingParams& sampling = request.sampling;
  print_status(printable(
      fmt::format("Chat template found: {}\nPrompt: {}\n{} prompt tokens, temperature {:g}, top-p {:g}, seed {}\n"
                  "Starting generation...\n",
                  model.chat_template() != nullptr ? "True" : "False", request.prompt, prompt.ids.size(),
                  sampling.temperature, sampling.top_p, sampling.seed)));
}

}  // namespace

int run_generate(int argc, const char* const* argv) {
  GenerateFlags flags;
  Args args("generate", "Answers a prompt with a model.", "--model-path PATH --prompt TEXT [flags]");
  declare(args, flags);
  if (!args.parse(argc, argv)) return 0;
  std::string prompt_text = read_prompt(flags, args);
  // Misuse is told before the model is loaded.
  parse_loop_guard(flags.loop_guard, args);
  parse_kv(args, flags.kv);
  parse_speculation(flags.speculate, args);
  parse_template_args(flags, args);

  const std::unique_ptr<TextModel> model = load(flags, args);
  const GenerateRequest request = make_request(flags, args, std::move(prompt_text), *model);
  const Prompt prompt = model->build_prompt(request);
  if (!prompt.used_template && (flags.system || flags.final_only)) {
    print_status(fmt::format("mobilellm: warning: {} no effect, because no chat template is applied\n",
                             flags.system && flags.final_only ? "--system and --final-only have"
                             : flags.system                   ? "--system has"
                                                              : "--final-only has"));
  }
  if (flags.print_prompt) print_status(printable(prompt.text) + "\n");
  if (flags.verbose) describe_start(*model, request, prompt);

  const bool is_streaming = !flags.json && !flags.extract_boxed;
  const bool is_shown = is_terminal(STDOUT_FILENO);
  bool ends_with_newline = true;
  const CancelScope cancel_scope;
  const GenerateResult result = model->generate(request, [&](const TextPiece& piece) {
    if (is_streaming && !piece.text.empty()) {
      print(is_shown ? printable(piece.text) : std::string(piece.text));
      flush_stdout();
      ends_with_newline = piece.text.ends_with('\n');
    } else if (flags.extract_boxed && flags.verbose) {
      print_status(printable(piece.text));
    }
    return true;
  });

  if (flags.json) {
    print(result_json(*model, request, prompt, result).dump_pretty() + "\n");
  } else if (flags.extract_boxed) {
    if (result.boxed) print(*result.boxed + "\n");
  } else if (!ends_with_newline) {
    print("\n");
  }
  flush_stdout();
  if (flags.extract_boxed && flags.verbose) print_status("\n");
  if (flags.logprobs && !flags.json) print_logprobs(result, model->tokenizer());
  print_status(summary(result, model->stats().speculation));
  if (CancelScope::requested_status() != 0) return CancelScope::requested_status();
  if (flags.extract_boxed && !result.boxed) {
    print_error(fmt::format("[generate] --extract-boxed: no complete \\boxed{{...}} in {} generated tokens (stop: {})",
                            result.completion_tokens, to_string(result.stop_detail)));
    return kExitNoBoxedAnswer;
  }
  return 0;
}

}  // namespace mobilellm::cli
