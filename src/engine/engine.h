/// Tokens in, tokens out: runs many sequences over one Runner, batch by batch. Knows ids only, never text.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "backend/backend.h"
#include "base/error.h"
#include "engine/request.h"
#include "engine/speculation/options.h"

namespace mobilellm {

using RequestId = uint64_t;

enum class FinishReason : uint8_t {
  kNone,       ///< Goes on.
  kStop,       ///< An eos id, or the caller's finish().
  kLength,     ///< max_tokens or the context end.
  kCancelled,  ///< cancel().
  kLoop,       ///< The caller saw the sequence repeat itself.
  kError,      ///< TokenEvent::error says what went wrong; other requests go on.
};

/// "none", "stop", "length", "cancelled", "loop" or "error".
const char* to_string(FinishReason reason);

struct TokenLogprob {
  int32_t token = -1;
  double logprob = 0;
};

/// One new token of a request, or its end, or both. Every request ends with exactly one event whose finish is set.
struct TokenEvent {
  RequestId id = 0;
  int32_t token = -1;      ///< -1 when the request ended without a further token. An eos id is reported as a token.
  bool is_forced = false;  ///< From force_tokens(); such tokens carry no log-probability.
  std::optional<double> logprob;           ///< When Request::n_logprobs is set.
  std::vector<TokenLogprob> top_logprobs;  ///< Descending, n_logprobs of them.
  FinishReason finish = FinishReason::kNone;
  std::optional<Error> error;
};

struct EngineOptions {
  int64_t context =
      0;  ///< Most tokens of one sequence, prompt included; 0 = the model's maximum, which also bounds it.
  int max_running = 64;       ///< Sequences in one batch; others wait in order of arrival.
  int prefill_chunk = 256;    ///< Prompt tokens computed per step, over all sequences.
  int64_t max_kv_tokens = 0;  ///< Bound on cached tokens over all sequences; 0 = as much as the runner grants.
  SpeculationOptions speculation = {};
};

struct EngineStats {
  int n_running = 0;
  int n_waiting = 0;
  int n_pages_used = 0;
  int n_pages_reserved = 0;
  uint64_t n_tokens_computed = 0;  ///< Positions that went through the model.
  uint64_t n_steps = 0;
  uint64_t n_preemptions = 0;  ///< Sequences that lost their pages and were computed again.
  SpeculationStats speculation = {};
};

/// Takes the events of a step, one by one, in the order in which they come about. May call every member of the engine
/// but step(): what it forces or ends takes effect before the next token of that request.
using EventHandler = std::function<void(const TokenEvent&)>;

/// Not thread-safe: one thread adds, steps and cancels. The runner must not be used by others meanwhile.
/// Results of a request never depend on other requests, chunk size or preemption.
class Engine {
 public:
  Engine(Runner& runner, EngineOptions options);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  /// Most tokens of one sequence: min(options.context, spec.max_context, max_kv_tokens).
  int64_t context_limit() const;

  /// Queues a request. Throws kContextExceeded when the prompt is longer than the context (before any work),
  /// kInvalidArgument for an empty prompt, ids outside the vocabulary or parameters outside their range.
  RequestId add(Request request);

  /// A second sequence with the same tokens so far, sharing their pages; it differs by its random stream.
  /// Before the first token is sampled this gives another sample of the same prompt for one prefill (not when called
  /// by the handler of a step: then only what is computed already is shared). Throws
  /// kInvalidArgument when the request has ended and its end was reported.
  RequestId fork(RequestId id, uint64_t stream);

  /// Runs one batch and reports the pending forced tokens and the sampled ones: one per sequence, and with speculation
  /// as many more as were guessed right. Cheap when there is no work. An exception of the handler comes out of it;
  /// events not yet reported are lost then, but the sequences can go on.
  void step(const EventHandler& on_event);
  /// The same for callers that do not act between the tokens of a step.
  std::vector<TokenEvent> step();
  bool has_work() const;

  /// These tokens are appended at the next step instead of sampled ones (guesses of this step are dropped), and
  /// reported as events. Eos ids among them do not end the sequence. They count for max_tokens. Unknown ids are
  /// ignored.
  void force_tokens(RequestId id, std::span<const int32_t> tokens);

  /// Ends a request now; its pages are free at once and the next step() reports the end. Unknown ids are ignored.
  void cancel(RequestId id) { finish(id, FinishReason::kCancelled); }
  void finish(RequestId id, FinishReason reason);

  EngineStats stats() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace mobilellm
