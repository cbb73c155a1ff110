// The step loop: schedule, run, accept.
#include "engine/engine.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <new>

#include "base/random.h"
#include "engine/logprobs.h"
#include "engine/sampler/sampler.h"
#include "engine/scheduler.h"

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
        scheduler(r, options.max_running, options.prefill_chunk, limit_pages(r, options)) {}

  void check(const Request& request) const;
  bool append(Sequence& sequence, int32_t token, TokenEvent event, std::vector<TokenEvent>& events);
  void append_forced(std::vector<TokenEvent>& events);
  void accept(Sequence& sequence, std::span<const float> logits, std::vector<TokenEvent>& events);
  void add_logprobs(int n_top, std::span<const float> logits, int32_t token, TokenEvent& event);
  std::vector<ScheduledSlice> next_batch(std::vector<TokenEvent>& events);
  bool run(const std::vector<ScheduledSlice>& batch, std::vector<TokenEvent>& events);
  void fail_request(RequestId id, const Error& error, std::vector<TokenEvent>& events);
  void detach(Sequence& sequence);

  Runner& runner;
  int64_t context_limit;
  Scheduler scheduler;
  Sampler sampler;
  std::vector<float> logits;          // Kept between steps, so that decoding allocates nothing of vocabulary size.
  std::vector<SequenceSlice> slices;  // The same.
  std::vector<TokenEvent> ended;      // Reported by the next step.
  std::vector<RequestId> done;        // To be removed at the end of the step.
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
  child->follows = parent->follows != 0 ? parent->follows : parent->id;
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
  sequence->forced.insert(sequence->forced.end(), tokens.begin(), tokens.end());
}

void Engine::finish(RequestId id, FinishReason reason) {
  if (state_->scheduler.find(id) == nullptr) return;
  state_->scheduler.remove(id);
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
  return stats;
}

// Appends a token, reports it, and returns whether the sequence goes on.
bool Engine::State::append(Sequence& sequence, int32_t token, TokenEvent event, std::vector<TokenEvent>& events) {
  const Request& request = sequence.request;
  sequence.tokens.push_back(token);
  sequence.history.add_generated(token);
  event.id = sequence.id;
  event.token = token;
  const bool is_eos = std::find(request.eos_ids.begin(), request.eos_ids.end(), token) != request.eos_ids.end();
  if (is_eos && !request.ignore_eos && !event.is_forced) {
    event.finish = FinishReason::kStop;
  } else if (sequence.n_generated() == request.max_tokens || sequence.n_tokens() >= context_limit) {
    event.finish = FinishReason::kLength;
  }
  const bool goes_on = event.finish == FinishReason::kNone;
  if (!goes_on) done.push_back(sequence.id);
  events.push_back(std::move(event));
  return goes_on;
}

void Engine::State::append_forced(std::vector<TokenEvent>& events) {
  for (const auto& sequence : scheduler.sequences()) {
    if (sequence->forced.empty()) continue;  // A follower has the same ones as its leader.
    for (const int32_t token : sequence->forced) {
      TokenEvent event;
      event.is_forced = true;
      if (!append(*sequence, token, std::move(event), events)) break;
    }
    sequence->forced.clear();
  }
  for (const RequestId id : done) scheduler.remove(id);
  done.clear();
}

void Engine::State::add_logprobs(int n_top, std::span<const float> row, int32_t token, TokenEvent& event) {
  const double log_sum = log_sum_exp(row);
  event.logprob = row[static_cast<size_t>(token)] - log_sum;
  event.top_logprobs = top_logprobs(row, log_sum, n_top);
}

void Engine::State::fail_request(RequestId id, const Error& error, std::vector<TokenEvent>& events) {
  TokenEvent event;
  event.id = id;
  event.finish = FinishReason::kError;
  event.error = error;
  events.push_back(std::move(event));
  done.push_back(id);
}

void Engine::State::accept(Sequence& sequence, std::span<const float> row, std::vector<TokenEvent>& events) {
  const Request& request = sequence.request;
  try {
    const double uniform =
        random_uniform(request.sampling.seed, request.stream, static_cast<uint64_t>(sequence.n_tokens()));
    const int32_t token = sampler.sample(row, request.sampling, sequence.history, uniform);
    TokenEvent event;
    if (request.n_logprobs) add_logprobs(*request.n_logprobs, row, token, event);
    append(sequence, token, std::move(event), events);
  } catch (const Error& error) {
    fail_request(sequence.id, error, events);
  }
}

// A sequence that cannot go on for lack of memory ends alone.
std::vector<ScheduledSlice> Engine::State::next_batch(std::vector<TokenEvent>& events) {
  while (true) {
    try {
      return scheduler.next_batch();
    } catch (const Error& error) {
      if (error.code() != ErrorCode::kResourceLimit) throw;
      const RequestId id = scheduler.stuck();
      fail_request(id, error, events);
      scheduler.remove(id);
      done.clear();
    }
  }
}

// False when the whole batch failed; its requests have ended then.
bool Engine::State::run(const std::vector<ScheduledSlice>& batch, std::vector<TokenEvent>& events) {
  slices.clear();
  size_t n_rows = 0;
  for (const ScheduledSlice& part : batch) {
    const Sequence& sequence = *part.sequence;
    const auto tokens = std::span(sequence.tokens)
                            .subspan(static_cast<size_t>(sequence.n_computed), static_cast<size_t>(part.n_tokens));
    slices.push_back({tokens, sequence.n_computed, sequence.pages, part.wants_logits ? 1 : 0});
    n_rows += part.wants_logits ? 1 : 0;
  }
  const size_t n_values = n_rows * static_cast<size_t>(runner.spec().vocab_size);
  try {
    if (logits.size() < n_values) logits.resize(n_values);
    runner.forward(slices, logits.data());
  } catch (const Error& error) {
    for (const ScheduledSlice& part : batch) fail_request(part.sequence->id, error, events);
    return false;
  } catch (const std::bad_alloc&) {
    const Error error(ErrorCode::kResourceLimit, "[engine] out of memory while computing a batch");
    for (const ScheduledSlice& part : batch) fail_request(part.sequence->id, error, events);
    return false;
  }
  return true;
}

std::vector<TokenEvent> Engine::step() {
  State& s = *state_;
  std::vector<TokenEvent> events = std::move(s.ended);
  s.ended.clear();
  s.append_forced(events);
  const auto batch = s.next_batch(events);
  if (!batch.empty() && s.run(batch, events)) {
    ++s.n_steps;
    const auto vocab_size = static_cast<size_t>(s.runner.spec().vocab_size);
    const float* row = s.logits.data();
    for (const ScheduledSlice& part : batch) {
      Sequence& sequence = *part.sequence;
      sequence.n_computed += part.n_tokens;
      s.n_tokens_computed += static_cast<uint64_t>(part.n_tokens);
      if (!part.wants_logits) continue;
      for (Sequence* follower : s.scheduler.followers(sequence.id)) {
        follower->follows = 0;
        s.scheduler.share_pages(sequence, *follower);
        s.accept(*follower, {row, vocab_size}, events);
      }
      s.accept(sequence, {row, vocab_size}, events);
      row += vocab_size;
    }
  }
  for (const RequestId id : s.done) s.scheduler.remove(id);
  s.done.clear();
  return events;
}

}  // namespace mobilellm
