// The generation loop over the engine, and the pieces that make up a model.
#include <algorithm>
#include <chrono>
#include <mutex>
#include <unordered_map>

#include "backend/registry.h"
#include "base/error.h"
#include "pipeline/draft_model.h"
#include "pipeline/pipeline.h"
#include "pipeline/prompt_builder.h"
#include "pipeline/session.h"

namespace mobilellm {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_between(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

}  // namespace

const char* to_string(StopDetail detail) {
  switch (detail) {
    case StopDetail::kNone:
      return "none";
    case StopDetail::kEos:
      return "eos";
    case StopDetail::kStopString:
      return "stop_string";
    case StopDetail::kBoxed:
      return "boxed";
    case StopDetail::kThinkingBudget:
      return "thinking_budget";
    case StopDetail::kMaxTokens:
      return "max_tokens";
    case StopDetail::kContextEnd:
      return "context_end";
    case StopDetail::kAnswerBound:
      return "answer_bound";
    case StopDetail::kLoop:
      return "loop";
  }
  return "unknown";
}

struct TextModel::State {
  LoadedModel model;
  std::unique_ptr<Runner> runner;
  std::unique_ptr<Runner> draft_runner;  // Null without a draft model.
  std::unique_ptr<Engine> engine;
  std::mutex mutex;

  // One request of a running call.
  struct Running {
    RequestId id = 0;
    std::unique_ptr<Session> session;
    std::vector<int32_t> eos_ids;
    Clock::time_point first_token;
    Clock::time_point last_token;
    bool has_token = false;
    bool is_finished = false;
  };

  Prompt build_prompt(const GenerateRequest& request) const {
    return mobilellm::build_prompt(request, model.tokenizer.get(), model.chat_template.get(), model.bos_token,
                                   model.eos_token, model.spec.vocab_size);
  }

  std::vector<int32_t> eos_ids(const GenerateRequest& request) const {
    std::vector<int32_t> ids(model.spec.eos_ids.begin(), model.spec.eos_ids.end());
    ids.insert(ids.end(), request.extra_eos_ids.begin(), request.extra_eos_ids.end());
    return ids;
  }

  Running start(const GenerateRequest& request, size_t index, const TextCallback& on_text) {
    if (request.max_tokens && *request.max_tokens < 0) {
      fail(ErrorCode::kInvalidArgument, "[generate] max_tokens: got {}, expected at least 0", *request.max_tokens);
    }
    Running running;
    running.eos_ids = eos_ids(request);
    running.session =
        std::make_unique<Session>(request, build_prompt(request), *model.tokenizer, running.eos_ids, index, on_text);
    return running;
  }

  void submit(const GenerateRequest& request, Running& running, const GenerateRequest* previous_request,
              const Running* previous) {
    const std::vector<int32_t>& ids = running.session->prompt().ids;
    const bool can_share =
        previous != nullptr && previous->session->prompt().ids == ids && is_same_sampling(request, *previous_request);
    if (can_share) {
      running.id = engine->fork(previous->id, request.stream);
    } else {
      Request engine_request;
      engine_request.prompt = ids;
      engine_request.sampling = request.sampling;
      engine_request.stream = request.stream;
      engine_request.eos_ids = running.eos_ids;
      engine_request.ignore_eos = request.ignore_eos;
      engine_request.max_tokens = request.max_tokens.value_or(-1);
      engine_request.n_logprobs = request.n_logprobs;
      running.id = engine->add(std::move(engine_request));
    }
  }

  // Whether two requests differ in their random stream alone, as far as the engine can see.
  static bool is_same_sampling(const GenerateRequest& a, const GenerateRequest& b) {
    return a.sampling == b.sampling && a.max_tokens == b.max_tokens && a.ignore_eos == b.ignore_eos &&
           a.extra_eos_ids == b.extra_eos_ids && a.n_logprobs == b.n_logprobs;
  }

  void apply(Running& running, const Session::Action& action) {
    if (action.is_finished) {
      running.is_finished = true;
      engine->finish(running.id, FinishReason::kStop);
    } else if (!action.forced_tokens.empty()) {
      engine->force_tokens(running.id, action.forced_tokens);
    }
  }
};

TextModel::TextModel(LoadedModel model, std::unique_ptr<Runner> runner, const TextModelOptions& options)
    : state_(std::make_unique<State>()) {
  state_->model = std::move(model);
  state_->runner = std::move(runner);
  EngineOptions engine_options;
  engine_options.context = options.context;
  engine_options.prefill_chunk = options.prefill_chunk;
  engine_options.max_kv_tokens = options.max_kv_tokens;
  engine_options.speculation = options.speculation;
  state_->engine = std::make_unique<Engine>(*state_->runner, engine_options);
}

TextModel::~TextModel() = default;

std::unique_ptr<TextModel> TextModel::load(const std::string& path, const TextModelOptions& options) {
  LoadedModel model = load_model(path);
  RunnerOptions runner_options;
  runner_options.n_threads = options.n_threads;
  runner_options.kv_dtype = options.kv_dtype;
  runner_options.is_exact = options.is_exact;
  runner_options.on_progress = options.on_progress;
  const bool has_draft_model = !options.draft_model.empty() && options.speculation.mode == SpeculationMode::kAuto;
  std::unique_ptr<Runner> draft_runner;
  if (has_draft_model) draft_runner = load_draft_model(options.draft_model, model, options.backend, runner_options);
  auto runner = create_runner(options.backend, model.spec, std::move(model.weights), runner_options);
  model.weights = {};
  TextModelOptions with_draft_model = options;
  if (has_draft_model) with_draft_model.speculation.draft_model = draft_runner.get();
  auto text_model = std::make_unique<TextModel>(std::move(model), std::move(runner), with_draft_model);
  text_model->state_->draft_runner = std::move(draft_runner);
  return text_model;
}

const std::string& TextModel::path() const { return state_->model.path; }
const std::string& TextModel::format() const { return state_->model.format; }
const ModelSpec& TextModel::spec() const { return state_->model.spec; }
const GenerationDefaults& TextModel::defaults() const { return state_->model.defaults; }
bool TextModel::has_tokenizer() const { return state_->model.tokenizer != nullptr; }
const Tokenizer& TextModel::tokenizer() const {
  if (!has_tokenizer()) {
    fail(ErrorCode::kNotFound, "[tokenizer] {} has no tokenizer; add tokenizer.json or tokenizer.model",
         state_->model.path);
  }
  return *state_->model.tokenizer;
}
const ChatTemplate* TextModel::chat_template() const { return state_->model.chat_template.get(); }
const std::string& TextModel::bos_token() const { return state_->model.bos_token; }
const std::string& TextModel::eos_token() const { return state_->model.eos_token; }
int64_t TextModel::context_limit() const { return state_->engine->context_limit(); }
EngineStats TextModel::stats() const { return state_->engine->stats(); }
size_t TextModel::kv_bytes_per_token() const { return state_->runner->kv_bytes_per_token(); }
Runner& TextModel::runner() { return *state_->runner; }
Prompt TextModel::build_prompt(const GenerateRequest& request) const { return state_->build_prompt(request); }

GenerateResult TextModel::generate(const GenerateRequest& request, const TextCallback& on_text) {
  return std::move(generate_all(std::span(&request, 1), on_text).front());
}

std::vector<GenerateResult> TextModel::generate_all(std::span<const GenerateRequest> requests,
                                                    const TextCallback& on_text) {
  State& state = *state_;
  const std::lock_guard lock(state.mutex);
  const Clock::time_point begin = Clock::now();
  tokenizer();

  std::vector<State::Running> all;
  // Whatever happens, the engine keeps nothing of this call.
  struct Cleanup {
    State& state;
    std::vector<State::Running>& all;
    ~Cleanup() {
      for (State::Running& running : all) {
        if (!running.is_finished && running.id != 0) state.engine->cancel(running.id);
      }
    }
  } cleanup{state, all};

  all.reserve(requests.size());
  for (size_t i = 0; i < requests.size(); ++i) all.push_back(state.start(requests[i], i, on_text));
  std::unordered_map<RequestId, size_t> index_of;
  for (size_t i = 0; i < requests.size(); ++i) {
    state.submit(requests[i], all[i], i > 0 ? &requests[i - 1] : nullptr, i > 0 ? &all[i - 1] : nullptr);
    index_of[all[i].id] = i;
  }
  for (State::Running& running : all) state.apply(running, running.session->start());

  const auto is_running = [](const State::Running& running) { return !running.is_finished; };
  while (std::any_of(all.begin(), all.end(), is_running)) {
    for (size_t i = 0; i < all.size(); ++i) {
      if (all[i].is_finished || requests[i].cancel == nullptr || !requests[i].cancel->load(std::memory_order_relaxed))
        continue;
      all[i].session->finish(FinishReason::kCancelled, StopDetail::kNone);
      all[i].is_finished = true;
      state.engine->cancel(all[i].id);
    }
    // Acting on each event before the next token of its request: guesses behind a stop or a lead-in never count.
    state.engine->step([&](const TokenEvent& event) {
      const auto found = index_of.find(event.id);
      if (found == index_of.end() || all[found->second].is_finished) return;
      State::Running& running = all[found->second];
      if (event.error) throw Error(*event.error);
      if (event.token >= 0) {
        running.last_token = Clock::now();
        if (!running.has_token) running.first_token = running.last_token;
        running.has_token = true;
      }
      state.apply(running, running.session->on_event(event));
    });
  }

  std::vector<GenerateResult> results;
  for (State::Running& running : all) {
    GenerateResult result = running.session->take_result();
    if (running.has_token) {
      GenerateTimings& timings = result.timings;
      timings.prompt_seconds = seconds_between(begin, running.first_token);
      timings.decode_seconds = seconds_between(running.first_token, running.last_token);
      timings.prompt_tokens_per_second =
          static_cast<double>(result.prompt_tokens) / std::max(timings.prompt_seconds, 1e-9);
      if (result.completion_tokens > 1) {
        timings.tokens_per_second =
            static_cast<double>(result.completion_tokens - 1) / std::max(timings.decode_seconds, 1e-9);
      }
    }
    results.push_back(std::move(result));
  }
  return results;
}

}  // namespace mobilellm
