// The step loop: schedule, run, accept.
#include "engine/engine.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <new>

#include "base/random.h"
#include "engine/logprobs.h"
#include "engine/sampler/sampler.h"
#include "engine/scheduler.h"
#include "engine/speculation/speculator.h"

namespace mobilellm {
namespace {

int64_t limit_context(const Runner& runner, const EngineOptions& options) {
  int64_t limit = runner.spec().max_context;
  if (options.context > 0) limit = std::min(limit, options.context);
  if (options.max_kv_tokens > 0) {
    limit = std::min(limit, options.max_kv_tokens / runner.page_tokens() * runner.page_tokens());
  }
  return limit;
}

int limit_pages(const Runner& runner, const EngineOptions& options) {
  if (options.max_kv_tokens <= 0) return std::numeric_limits<int>::max();
  return static_cast<int>(
      std::clamp<int64_t>(options.max_kv_tokens / runner.page_tokens(), 1, std::numeric_limits<int>::max()));
}

TokenEvent ended_event(RequestId id, FinishReason reason) {
  TokenEvent event;
  event.id = id;
  event.finish = reason;
  return event;
}

}  // namespace

const char* to_string(FinishReason reason) {
  switch (reason) {
    case FinishReason::kNone:
      return "none";
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kCancelled:
      return "cancelled";
    case FinishReason::kLoop:
      return "loop";
    case FinishReason::kError:
      return "error";
  }
  return "none";
}

struct Engine::State {
  State(Runner& r, const EngineOptions& options)
      : runner(r),
        context_limit(limit_context(r, options)),
        scheduler(r, options.max_running, options.prefill_chunk, limit_pages(r, options)) {
    if (options.speculation.mode == SpeculationMode::kOff) return;
    const Runner* draft_model = options.speculation.draft_model;
    speculator.emplace(options.speculation, draft_model == nullptr ? 1 : limit_pages(*draft_model, options));
  }

  // A sequence whose next token is to be chosen from the rows of logits that begin here.
  struct Ready {
    RequestId id;
    size_t row;
  };

  void check(const Request& request) const;
  void remove(RequestId id);
  void deliver(const TokenEvent& event);
  void append(Sequence& sequence, int32_t token, TokenEvent event);
  void report_ended();
  void append_forced();
  std::vector<ScheduledSlice> next_batch();
  void guess(const std::vector<ScheduledSlice>& batch);
  void compute(const std::vector<ScheduledSlice>& batch);
  bool run(const std::vector<ScheduledSlice>& batch);
  void accept_all(const std::vector<ScheduledSlice>& batch);
  size_t accept(const Ready& ready);
  bool accept_one(Sequence& sequence, size_t row, int32_t& token);
  void add_logprobs(int n_top, std::span<const float> row, int32_t token, TokenEvent& event);
  void fail_request(RequestId id, const Error& error);
  void detach(Sequence& sequence);

  Runner& runner;
  int64_t context_limit;
  Scheduler scheduler;
  Sampler sampler;
  std::optional<Speculator> speculator;
  const EventHandler* on_event = nullptr;  // Set during a step.
  std::vector<float> logits;               // Kept between steps, so that decoding allocates nothing of vocabulary size.
  std::vector<SequenceSlice> slices;       // The same.
  std::vector<int32_t> drafted_tokens;     // The same: the tokens of slices with guesses.
  std::vector<TokenEvent> ended;           // Reported by the next step.
  RequestId next_id = 1;
  uint64_t n_tokens_computed = 0;
  uint64_t n_steps = 0;
};

Engine::Engine(Runner& runner, EngineOptions options) {
  if (options.context < 0 || options.max_running < 1 || options.prefill_chunk < 1 || options.max_kv_tokens < 0 ||
      (options.max_kv_tokens > 0 && options.max_kv_tokens < runner.page_tokens())) {
    fail(ErrorCode::kInvalidArgument,
         "[engine] context {}, max_running {}, prefill_chunk {} or max_kv_tokens {} is out of range (a page has {} "
         "tokens)",
         options.context, options.max_running, options.prefill_chunk, options.max_kv_tokens, runner.page_tokens());
  }
  if (options.speculation.max_draft < 1 || options.speculation.max_draft > kMaxDraft) {
    fail(ErrorCode::kInvalidArgument, "[engine] max_draft: got {}, expected 1 to {}", options.speculation.max_draft,
         kMaxDraft);
  }
  const Runner* draft_model = options.speculation.draft_model;
  if (draft_model != nullptr && draft_model->spec().vocab_size != runner.spec().vocab_size) {
    fail(ErrorCode::kInvalidArgument, "[engine] draft model: got a vocabulary of {} tokens, expected {} as the model's",
         draft_model->spec().vocab_size, runner.spec().vocab_size);
  }
  state_ = std::make_unique<State>(runner, options);
}

Engine::~Engine() = default;

int64_t Engine::context_limit() const { return state_->context_limit; }

void Engine::State::check(const Request& request) const {
  const int vocab_size = runner.spec().vocab_size;
  if (request.prompt.empty()) fail(ErrorCode::kInvalidArgument, "[engine] the prompt has no tokens");
  for (const int32_t token : request.prompt) {
    if (token < 0 || token >= vocab_size) {
      fail(ErrorCode::kInvalidArgument, "[engine] prompt: token id {} is outside the vocabulary of {}", token,
           vocab_size);
    }
  }
  validate(request.sampling, vocab_size);
  if (request.max_tokens < -1) {
    fail(ErrorCode::kInvalidArgument, "[engine] max_tokens: got {}, expected -1 or more", request.max_tokens);
  }
  if (request.n_logprobs && (*request.n_logprobs < 0 || *request.n_logprobs > kMaxLogprobs)) {
    fail(ErrorCode::kInvalidArgument, "[engine] n_logprobs: got {}, expected 0 to {}", *request.n_logprobs,
         kMaxLogprobs);
  }
  if (static_cast<int64_t>(request.prompt.size()) > context_limit) {
    fail(ErrorCode::kContextExceeded,
         "[engine] context_length_exceeded: the prompt has {} tokens and exceeds the available context size of {} "
         "tokens",
         request.prompt.size(), context_limit);
  }
}

RequestId Engine::add(Request request) {
  state_->check(request);
  const RequestId id = state_->next_id++;
  const bool has_room = request.max_tokens != 0 && static_cast<int64_t>(request.prompt.size()) < state_->context_limit;
  if (has_room) {
    state_->scheduler.add(std::make_unique<Sequence>(id, std::move(request)));
  } else {
    state_->ended.push_back(ended_event(id, FinishReason::kLength));
  }
  return id;
}

RequestId Engine::fork(RequestId id, uint64_t stream) {
  Sequence* parent = state_->scheduler.find(id);
  if (parent == nullptr) {
    // One that ended before any work, e.g. with max_tokens 0, has copies that end the same way.
    for (const TokenEvent& event : state_->ended) {
      if (event.id != id) continue;
      const TokenEvent copy = ended_event(state_->next_id++, event.finish);
      state_->ended.push_back(copy);
      return copy.id;
    }
    fail(ErrorCode::kInvalidArgument, "[engine] fork: request {} does not exist or has ended", id);
  }
  auto child = std::make_unique<Sequence>(*parent);
  child->id = state_->next_id++;
  child->request.stream = stream;
  child->pages.clear();  // These are still the parent's; sharing counts them.
  child->n_computed = 0;
  child->is_running = false;
  child->draft.clear();
  if (state_->on_event == nullptr) {
    child->follows = parent->follows != 0 ? parent->follows : parent->id;
  } else {
    // In the middle of a step the one to follow may be about to get its next token: too early for this one.
    const Sequence* leader = parent->follows != 0 ? state_->scheduler.find(parent->follows) : parent;
    MOBILELLM_CHECK(leader != nullptr);
    state_->scheduler.share_pages(*leader, *child);
  }
  const RequestId child_id = child->id;
  state_->scheduler.add(std::move(child));
  return child_id;
}

// Tokens of this sequence are about to differ from those of the sequences it shares its prefill with.
void Engine::State::detach(Sequence& sequence) {
  if (sequence.follows != 0) {
    Sequence* leader = scheduler.find(sequence.follows);
    MOBILELLM_CHECK(leader != nullptr);
    sequence.follows = 0;
    scheduler.share_pages(*leader, sequence);
  }
  RequestId heir = 0;
  for (Sequence* follower : scheduler.followers(sequence.id)) {
    follower->follows = heir;
    if (heir != 0) continue;
    heir = follower->id;
    scheduler.share_pages(sequence, *follower);
  }
}

void Engine::force_tokens(RequestId id, std::span<const int32_t> tokens) {
  Sequence* sequence = state_->scheduler.find(id);
  if (sequence == nullptr || tokens.empty()) return;
  const int vocab_size = state_->runner.spec().vocab_size;
  for (const int32_t token : tokens) {
    if (token < 0 || token >= vocab_size) {
      fail(ErrorCode::kInvalidArgument, "[engine] force_tokens: token id {} is outside the vocabulary of {}", token,
           vocab_size);
    }
  }
  state_->detach(*sequence);
  sequence->draft.clear();
  sequence->forced.insert(sequence->forced.end(), tokens.begin(), tokens.end());
}

void Engine::finish(RequestId id, FinishReason reason) {
  if (state_->scheduler.find(id) == nullptr) return;
  state_->remove(id);
  state_->ended.push_back(ended_event(id, reason));
}

bool Engine::has_work() const { return !state_->scheduler.is_empty() || !state_->ended.empty(); }

EngineStats Engine::stats() const {
  EngineStats stats;
  stats.n_running = state_->scheduler.n_running();
  stats.n_waiting = static_cast<int>(state_->scheduler.sequences().size()) - stats.n_running;
  stats.n_pages_used = state_->scheduler.blocks().n_used();
  stats.n_pages_reserved = state_->scheduler.blocks().n_reserved();
  stats.n_tokens_computed = state_->n_tokens_computed;
  stats.n_steps = state_->n_steps;
  stats.n_preemptions = state_->scheduler.n_preemptions();
  if (state_->speculator) stats.speculation = state_->speculator->stats();
  return stats;
}

void Engine::State::remove(RequestId id) {
  const Sequence* sequence = scheduler.find(id);
  if (sequence == nullptr) return;
  if (speculator) speculator->remove(*sequence);
  scheduler.remove(id);
}

// The handler may end any request, so that no sequence outlives this call for certain.
void Engine::State::deliver(const TokenEvent& event) {
  if (event.finish != FinishReason::kNone) remove(event.id);
  (*on_event)(event);
}

// Appends a token and reports it. The sequence may be gone afterwards.
void Engine::State::append(Sequence& sequence, int32_t token, TokenEvent event) {
  const Request& request = sequence.request;
  sequence.tokens.push_back(token);
  sequence.history.add_generated(token);
  if (speculator) speculator->on_token(sequence, token);
  event.id = sequence.id;
  event.token = token;
  const bool is_eos = std::find(request.eos_ids.begin(), request.eos_ids.end(), token) != request.eos_ids.end();
  if (is_eos && !request.ignore_eos && !event.is_forced) {
    event.finish = FinishReason::kStop;
  } else if (sequence.n_generated() == request.max_tokens || sequence.n_tokens() >= context_limit) {
    event.finish = FinishReason::kLength;
  }
  deliver(event);
}

void Engine::State::report_ended() {
  std::vector<TokenEvent> events;
  events.swap(ended);
  for (const TokenEvent& event : events) (*on_event)(event);
}

void Engine::State::append_forced() {
  std::vector<RequestId> ids;
  for (const auto& sequence : scheduler.sequences()) {
    if (!sequence->forced.empty()) ids.push_back(sequence->id);  // A follower has the same ones as its leader.
  }
  for (const RequestId id : ids) {
    Sequence* sequence = scheduler.find(id);
    if (sequence == nullptr) continue;
    for (size_t n = sequence->forced.size(); n > 0 && sequence != nullptr; --n) {
      const int32_t token = sequence->forced.front();
      sequence->forced.pop_front();
      TokenEvent event;
      event.is_forced = true;
      append(*sequence, token, std::move(event));
      sequence = scheduler.find(id);
    }
  }
}

void Engine::State::add_logprobs(int n_top, std::span<const float> row, int32_t token, TokenEvent& event) {
  const double log_sum = log_sum_exp(row);
  event.logprob = row[static_cast<size_t>(token)] - log_sum;
  event.top_logprobs = top_logprobs(row, log_sum, n_top);
}

void Engine::State::fail_request(RequestId id, const Error& error) {
  TokenEvent event;
  event.id = id;
  event.finish = FinishReason::kError;
  event.error = error;
  deliver(event);
}

// A sequence that cannot go on for lack of memory ends alone.
std::vector<ScheduledSlice> Engine::State::next_batch() {
  while (true) {
    try {
      return scheduler.next_batch();
    } catch (const Error& error) {
      if (error.code() != ErrorCode::kResourceLimit) throw;
      fail_request(scheduler.stuck(), error);
    }
  }
}

// Guesses are made when every sequence of the batch computes its last token only: next to a prompt they cost more than
// they bring.
void Engine::State::guess(const std::vector<ScheduledSlice>& batch) {
  std::vector<Sequence*> sequences;
  for (const ScheduledSlice& part : batch) {
    part.sequence->draft.clear();  // What an exception of the handler left there.
    if (part.n_tokens == 1 && part.wants_logits) sequences.push_back(part.sequence);
  }
  if (!speculator || sequences.size() < batch.size()) return;
  speculator->plan(sequences, context_limit);
  for (Sequence* sequence : sequences) {
    if (sequence->draft.empty()) continue;
    sequence->draft.resize(
        static_cast<size_t>(scheduler.extend(*sequence, static_cast<int64_t>(sequence->draft.size()))));
  }
}

// Throws when the batch cannot be computed.
void Engine::State::compute(const std::vector<ScheduledSlice>& batch) {
  slices.clear();
  drafted_tokens.clear();
  size_t n_rows = 0;
  size_t n_drafted = 0;
  for (const ScheduledSlice& part : batch) {
    if (!part.sequence->draft.empty()) n_drafted += part.sequence->draft.size() + 1;
  }
  drafted_tokens.reserve(n_drafted);  // The slices point into it.
  for (const ScheduledSlice& part : batch) {
    const Sequence& sequence = *part.sequence;
    auto tokens = std::span(sequence.tokens)
                      .subspan(static_cast<size_t>(sequence.n_computed), static_cast<size_t>(part.n_tokens));
    if (!sequence.draft.empty()) {
      const size_t begin = drafted_tokens.size();
      drafted_tokens.push_back(tokens.front());
      drafted_tokens.insert(drafted_tokens.end(), sequence.draft.begin(), sequence.draft.end());
      tokens = std::span(drafted_tokens).subspan(begin);
    }
    const int n_logits = part.wants_logits ? 1 + static_cast<int>(sequence.draft.size()) : 0;
    slices.push_back({tokens, sequence.n_computed, sequence.pages, n_logits});
    n_rows += static_cast<size_t>(n_logits);
  }
  const size_t n_values = n_rows * static_cast<size_t>(runner.spec().vocab_size);
  if (logits.size() < n_values) logits.resize(n_values);
  const auto begin = std::chrono::steady_clock::now();
  runner.forward(slices, logits.data());
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  const bool is_decoding = std::all_of(
      batch.begin(), batch.end(), [](const ScheduledSlice& part) { return part.n_tokens == 1 && part.wants_logits; });
  if (speculator && is_decoding) {
    speculator->on_step(static_cast<int>(batch.size()), static_cast<int>(n_rows - batch.size()), seconds.count());
  }
}

// False when the whole batch failed; its requests have ended then.
bool Engine::State::run(const std::vector<ScheduledSlice>& batch) {
  std::optional<Error> error;
  for (int attempt = 0; attempt < 2; ++attempt) {
    try {
      compute(batch);
      return true;
    } catch (const Error& caught) {
      error = caught;
    } catch (const std::bad_alloc&) {
      error.emplace(ErrorCode::kResourceLimit, "[engine] out of memory while computing a batch");
    }
    // What guesses need beyond the rest must not end a request.
    const bool had_guesses = std::any_of(batch.begin(), batch.end(),
                                         [](const ScheduledSlice& part) { return !part.sequence->draft.empty(); });
    if (!had_guesses) break;
    for (const ScheduledSlice& part : batch) part.sequence->draft.clear();
  }
  std::vector<RequestId> ids;
  for (const ScheduledSlice& part : batch) ids.push_back(part.sequence->id);
  for (const RequestId id : ids) {
    if (scheduler.find(id) != nullptr) fail_request(id, *error);
  }
  return false;
}

// Chooses the next token from a row of logits and reports it. False when the request ended with an error instead.
bool Engine::State::accept_one(Sequence& sequence, size_t row, int32_t& token) {
  const Request& request = sequence.request;
  const auto vocab_size = static_cast<size_t>(runner.spec().vocab_size);
  const auto values = std::span<const float>(logits).subspan(row * vocab_size, vocab_size);
  TokenEvent event;
  try {
    const double uniform =
        random_uniform(request.sampling.seed, request.stream, static_cast<uint64_t>(sequence.n_tokens()));
    token = sampler.sample(values, request.sampling, sequence.history, uniform);
    if (request.n_logprobs) add_logprobs(*request.n_logprobs, values, token, event);
  } catch (const Error& error) {
    fail_request(sequence.id, error);
    return false;
  }
  append(sequence, token, std::move(event));
  return true;
}

// Takes the next token of a sequence and, while the guesses are right, those behind it. Whatever the handler does in
// between, the sequence is as if its tokens had come one per step. Returns how many guesses were accepted.
size_t Engine::State::accept(const Ready& ready) {
  for (size_t i = 0;; ++i) {
    Sequence* sequence = scheduler.find(ready.id);
    if (sequence == nullptr) return i;
    if (!sequence->forced.empty()) {  // A handler of this step wants these to come next.
      scheduler.trim(*sequence);
      return i;
    }
    int32_t token = -1;
    if (!accept_one(*sequence, ready.row + i, token)) return i;
    sequence = scheduler.find(ready.id);
    if (sequence == nullptr) return i;
    if (i >= sequence->draft.size() || sequence->draft[i] != token) {
      sequence->draft.clear();
      scheduler.trim(*sequence);
      return i;
    }
    ++sequence->n_computed;
  }
}

void Engine::State::accept_all(const std::vector<ScheduledSlice>& batch) {
  std::vector<Ready> ready;
  size_t row = 0;
  size_t n_drafted = 0;
  // No handler runs here: afterwards every sequence of the batch can go on, whatever a handler does.
  for (const ScheduledSlice& part : batch) {
    Sequence& sequence = *part.sequence;
    sequence.n_computed += part.n_tokens;
    n_tokens_computed += static_cast<uint64_t>(part.n_tokens) + sequence.draft.size();
    if (!part.wants_logits) continue;
    for (Sequence* follower : scheduler.followers(sequence.id)) {
      follower->follows = 0;
      scheduler.share_pages(sequence, *follower);
      ready.push_back({follower->id, row});
    }
    ready.push_back({sequence.id, row});
    row += 1 + sequence.draft.size();
    n_drafted += sequence.draft.size();
  }
  size_t n_accepted = 0;
  for (const Ready& it : ready) n_accepted += accept(it);
  if (speculator) {
    speculator->on_judged(static_cast<int>(batch.size()), static_cast<int>(n_drafted), static_cast<int>(n_accepted));
  }
}

void Engine::step(const EventHandler& on_event) {
  State& s = *state_;
  if (s.on_event != nullptr) fail(ErrorCode::kInvalidArgument, "[engine] step was called by the handler of its events");
  struct Stepping {
    State& state;
    Stepping(State& s, const EventHandler& handler) : state(s) { state.on_event = &handler; }
    ~Stepping() { state.on_event = nullptr; }
  } stepping(s, on_event);
  s.report_ended();
  s.append_forced();
  const auto batch = s.next_batch();
  if (batch.empty()) return;
  s.guess(batch);
  if (!s.run(batch)) return;
  ++s.n_steps;
  s.accept_all(batch);
}

std::vector<TokenEvent> Engine::step() {
  std::vector<TokenEvent> events;
  step([&events](const TokenEvent& event) { events.push_back(event); });
  return events;
}

}  // namespace mobilellm
