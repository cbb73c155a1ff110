// One step: admit, append forced tokens, plan a batch, run it, choose tokens.
#include "engine/engine.h"

#include <algorithm>
#include <deque>
#include <limits>
#include <unordered_map>

#include "base/random.h"
#include "engine/block_manager.h"
#include "engine/logprobs.h"
#include "engine/sampler/sampler.h"
#include "engine/sequence.h"

namespace mobilellm {

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
  return "unknown";
}

struct Engine::State {
  Runner& runner;
  EngineOptions options;
  int64_t context_limit = 0;
  BlockManager blocks;
  std::unordered_map<RequestId, std::unique_ptr<Sequence>> sequences;
  std::deque<RequestId> waiting;    // in order of arrival, preempted ones in front
  std::vector<RequestId> running;   // in order of admission
  std::vector<TokenEvent> pending;  // ends that the next step reports
  std::vector<TokenEvent> events;   // of the step under way
  Sampler sampler;
  std::vector<float> logits;
  RequestId next_id = 1;
  uint64_t n_tokens_computed = 0;
  uint64_t n_steps = 0;
  uint64_t n_preemptions = 0;

  struct Planned {
    Sequence* sequence;
    int64_t n_tokens;
    bool wants_logits;
  };
  std::vector<Planned> plan;
  std::vector<SequenceSlice> slices;

  State(Runner& r, const EngineOptions& o) : runner(r), options(o), blocks(r, max_pages(r, o)) {
    context_limit = r.spec().max_context;
    if (o.context > 0) context_limit = std::min(context_limit, o.context);
    if (o.max_kv_tokens > 0) context_limit = std::min(context_limit, o.max_kv_tokens);
  }

  static int max_pages(const Runner& r, const EngineOptions& o) {
    const int64_t pages = (o.max_kv_tokens + r.page_tokens() - 1) / r.page_tokens();
    return static_cast<int>(std::min<int64_t>(pages, std::numeric_limits<int>::max()));
  }

  Sequence* find(RequestId id) {
    const auto it = sequences.find(id);
    return it == sequences.end() ? nullptr : it->second.get();
  }

  void release_pages(Sequence& s) {
    for (const int32_t page : s.pages) blocks.release(page);
    s.pages.clear();
    s.n_computed = 0;
  }

  // Forks that waited for a sequence which will not share with them any more compute their prompt themselves.
  void detach_forks(Sequence& s) {
    for (const RequestId fork_id : s.forks) {
      if (Sequence* fork = find(fork_id)) {
        fork->parent = 0;
        waiting.push_back(fork_id);
      }
    }
    s.forks.clear();
  }

  // Takes a sequence out of everything.
  void erase(Sequence& s) {
    release_pages(s);
    detach_forks(s);
    if (Sequence* parent = find(s.parent)) std::erase(parent->forks, s.id);
    std::erase(waiting, s.id);
    std::erase(running, s.id);
    sequences.erase(s.id);
  }

  void admit() {
    while (!waiting.empty() && static_cast<int>(running.size()) < options.max_running) {
      running.push_back(waiting.front());
      waiting.pop_front();
    }
  }

  // Appends one token and reports it; ends the sequence at its bounds. True when the sequence is gone.
  bool append(Sequence& s, TokenEvent event) {
    s.tokens.push_back(event.token);
    s.history.add_generated(event.token);
    const bool is_eos =
        !event.is_forced && !s.request.ignore_eos &&
        std::find(s.request.eos_ids.begin(), s.request.eos_ids.end(), event.token) != s.request.eos_ids.end();
    if (is_eos) {
      event.finish = FinishReason::kStop;
    } else if ((s.request.max_tokens >= 0 && s.n_generated() >= s.request.max_tokens) ||
               s.n_tokens() >= context_limit) {
      event.finish = FinishReason::kLength;
    }
    const bool is_done = event.finish != FinishReason::kNone;
    events.push_back(std::move(event));
    if (is_done) erase(s);
    return is_done;
  }

  void append_forced() {
    const std::vector<RequestId> ids = running;
    for (const RequestId id : ids) {
      Sequence* s = find(id);
      if (s == nullptr || s->forced.empty()) continue;
      detach_forks(*s);
      bool is_done = false;
      while (!is_done && !s->forced.empty()) {
        TokenEvent event;
        event.id = id;
        event.token = s->forced.front();
        event.is_forced = true;
        s->forced.pop_front();
        is_done = append(*s, std::move(event));
      }
    }
  }

  // A request that may generate nothing, or whose prompt fills the context, ends before any work.
  void end_without_tokens() {
    const std::vector<RequestId> ids = running;
    for (const RequestId id : ids) {
      Sequence* s = find(id);
      if (s->n_generated() > 0 || (s->request.max_tokens != 0 && s->n_tokens() < context_limit)) continue;
      TokenEvent event;
      event.id = id;
      event.finish = FinishReason::kLength;
      events.push_back(std::move(event));
      erase(*s);
    }
  }

  // Makes room for `n` more positions. False when there is none.
  bool make_room(Sequence& s, int64_t n) {
    const auto page_tokens = static_cast<int64_t>(runner.page_tokens());
    const auto first = static_cast<size_t>(s.n_computed / page_tokens);
    const auto needed = static_cast<size_t>((s.n_computed + n + page_tokens - 1) / page_tokens);
    if (first < s.pages.size() && !blocks.make_writable(s.pages, first)) return false;
    while (s.pages.size() < needed) {
      const int page = blocks.allocate();
      if (page < 0) return false;
      s.pages.push_back(page);
    }
    return true;
  }

  // The youngest running sequence gives up its pages and is computed again later.
  void preempt(Sequence& s) {
    release_pages(s);
    std::erase(running, s.id);
    waiting.push_front(s.id);
    ++n_preemptions;
  }

  void make_plan() {
    plan.clear();
    int64_t prefill_left = std::max(1, options.prefill_chunk);
    for (size_t i = 0; i < running.size(); ++i) {
      Sequence& s = *find(running[i]);
      int64_t n = s.n_pending();
      if (n > 1) {
        n = std::min(n, prefill_left);
        prefill_left -= n;
      }
      if (n == 0) continue;
      bool has_room = make_room(s, n);
      while (!has_room && running.size() > i + 1) {
        preempt(*find(running.back()));
        has_room = make_room(s, n);
      }
      if (!has_room) {
        // Older sequences hold the pages; this one waits for them. Alone it always fits: context_limit <=
        // max_kv_tokens.
        MOBILELLM_CHECK(i > 0);
        preempt(s);
        return;
      }
      plan.push_back({&s, n, n == s.n_pending()});
    }
  }

  void run_plan() {
    slices.clear();
    size_t n_rows = 0;
    for (const Planned& p : plan) {
      SequenceSlice slice;
      slice.tokens = std::span(p.sequence->tokens)
                         .subspan(static_cast<size_t>(p.sequence->n_computed), static_cast<size_t>(p.n_tokens));
      slice.start_pos = p.sequence->n_computed;
      slice.pages = p.sequence->pages;
      slice.n_logits = p.wants_logits ? 1 : 0;
      n_rows += p.wants_logits ? 1 : 0;
      slices.push_back(slice);
    }
    const auto vocab = static_cast<size_t>(runner.spec().vocab_size);
    if (logits.size() < n_rows * vocab) logits.resize(n_rows * vocab);
    runner.forward(slices, logits.data());
    ++n_steps;
    for (const Planned& p : plan) {
      p.sequence->n_computed += p.n_tokens;
      n_tokens_computed += static_cast<uint64_t>(p.n_tokens);
    }
    size_t row = 0;
    for (const Planned& p : plan) {
      if (!p.wants_logits) continue;
      const std::span<const float> row_logits(logits.data() + row * vocab, vocab);
      ++row;
      wake_forks(*p.sequence, row_logits);
      choose(*p.sequence, row_logits);
    }
  }

  // Forks take over the pages of the prompt and choose their first token from the same logits.
  void wake_forks(Sequence& s, std::span<const float> row_logits) {
    for (const RequestId fork_id : std::exchange(s.forks, {})) {
      Sequence& fork = *find(fork_id);
      fork.parent = 0;
      fork.pages = s.pages;
      for (const int32_t page : fork.pages) blocks.share(page);
      fork.n_computed = s.n_computed;
      if (fork.forced.empty()) {
        if (choose(fork, row_logits)) continue;
      }
      // Beyond max_running it waits with its pages; they are shared, so they cost little.
      if (static_cast<int>(running.size()) < options.max_running) {
        running.push_back(fork_id);
      } else {
        waiting.push_back(fork_id);
      }
    }
  }

  // True when the sequence is gone.
  bool choose(Sequence& s, std::span<const float> row_logits) {
    TokenEvent event;
    event.id = s.id;
    try {
      const double uniform = random_uniform(s.request.sampling.seed, s.request.stream, static_cast<uint64_t>(s.n_tokens()));
      event.token = sampler.sample(row_logits, s.request.sampling, s.history, uniform);
    } catch (const Error& error) {
      event.finish = FinishReason::kError;
      event.error = error;
      events.push_back(std::move(event));
      erase(s);
      return true;
    }
    if (s.request.n_logprobs) {
      const double log_sum = log_sum_exp(row_logits);
      event.logprob = static_cast<double>(row_logits[static_cast<size_t>(event.token)]) - log_sum;
      event.top_logprobs = top_logprobs(row_logits, log_sum, *s.request.n_logprobs);
    }
    return append(s, std::move(event));
  }
};

Engine::Engine(Runner& runner, EngineOptions options) : state_(std::make_unique<State>(runner, options)) {}
Engine::~Engine() = default;

int64_t Engine::context_limit() const { return state_->context_limit; }

RequestId Engine::add(Request request) {
  State& state = *state_;
  const int vocab_size = state.runner.spec().vocab_size;
  if (request.prompt.empty()) fail(ErrorCode::kInvalidArgument, "[engine] the prompt is empty");
  const auto n_prompt = static_cast<int64_t>(request.prompt.size());
  if (n_prompt > state.context_limit) {
    fail(ErrorCode::kContextExceeded,
         "[engine] context_length_exceeded: the prompt has {} tokens and exceeds the available context size of {}; "
         "shorten it or "
         "raise the context",
         n_prompt, state.context_limit);
  }
  for (const int32_t id : request.prompt) {
    if (id < 0 || id >= vocab_size) {
      fail(ErrorCode::kInvalidArgument, "[engine] token id {} is outside the vocabulary of {}", id, vocab_size);
    }
  }
  if (request.n_logprobs && (*request.n_logprobs < 0 || *request.n_logprobs > kMaxLogprobs)) {
    fail(ErrorCode::kInvalidArgument, "[engine] n_logprobs: got {}, expected 0 to {}", *request.n_logprobs,
         kMaxLogprobs);
  }
  validate(request.sampling, vocab_size);
  auto sequence = std::make_unique<Sequence>(state.next_id++, std::move(request));
  const RequestId id = sequence->id;
  state.sequences.emplace(id, std::move(sequence));
  state.waiting.push_back(id);
  return id;
}

RequestId Engine::fork(RequestId id, uint64_t stream) {
  State& state = *state_;
  Sequence* source = state.find(id);
  if (source == nullptr) fail(ErrorCode::kNotFound, "[engine] request {} does not run", id);
  // A fork of a fork that still waits shares with the same sequence.
  if (Sequence* parent = state.find(source->parent)) source = parent;
  auto sequence = std::make_unique<Sequence>(*source);
  sequence->id = state.next_id++;
  sequence->request.stream = stream;
  sequence->forks.clear();
  sequence->parent = 0;
  const RequestId fork_id = sequence->id;
  if (source->n_generated() == 0 && source->forced.empty()) {
    sequence->pages.clear();
    sequence->n_computed = 0;
    sequence->parent = source->id;
    source->forks.push_back(fork_id);
  } else {
    for (const int32_t page : sequence->pages) state.blocks.share(page);
    state.waiting.push_back(fork_id);
  }
  state.sequences.emplace(fork_id, std::move(sequence));
  return fork_id;
}

std::vector<TokenEvent> Engine::step() {
  State& state = *state_;
  state.events = std::exchange(state.pending, {});
  state.admit();
  state.append_forced();
  state.end_without_tokens();
  state.make_plan();
  if (!state.plan.empty()) state.run_plan();
  return std::exchange(state.events, {});
}

bool Engine::has_work() const { return !state_->pending.empty() || !state_->sequences.empty(); }

void Engine::force_tokens(RequestId id, std::span<const int32_t> tokens) {
  Sequence* sequence = state_->find(id);
  if (sequence == nullptr) fail(ErrorCode::kNotFound, "[engine] request {} does not run", id);
  const int vocab_size = state_->runner.spec().vocab_size;
  for (const int32_t token : tokens) {
    if (token < 0 || token >= vocab_size) {
      fail(ErrorCode::kInvalidArgument, "[engine] token id {} is outside the vocabulary of {}", token, vocab_size);
    }
    sequence->forced.push_back(token);
  }
}

void Engine::finish(RequestId id, FinishReason reason) {
  Sequence* sequence = state_->find(id);
  if (sequence == nullptr) return;
  state_->erase(*sequence);
  TokenEvent event;
  event.id = id;
  event.finish = reason;
  state_->pending.push_back(std::move(event));
}

EngineStats Engine::stats() const {
  EngineStats stats;
  stats.n_running = static_cast<int>(state_->running.size());
  stats.n_waiting = static_cast<int>(state_->sequences.size() - state_->running.size());
  stats.n_pages_used = state_->blocks.n_used();
  stats.n_pages_reserved = state_->blocks.n_reserved();
  stats.n_tokens_computed = state_->n_tokens_computed;
  stats.n_steps = state_->n_steps;
  stats.n_preemptions = state_->n_preemptions;
  return stats;
}

}  // namespace mobilellm
