/// One request on its way: its tokens, the pages that hold them, and what was asked.
#pragma once

#include <cstdint>
#include <deque>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "engine/request.h"
#include "engine/sampler/history.h"

namespace mobilellm {

/// tokens[0 .. n_computed) are in the cache; the others wait to go through the model. When all have gone through,
/// the logits of the last one choose the next.
struct Sequence {
  Sequence(RequestId request_id, Request what)
      : id(request_id), family(request_id), request(std::move(what)), history(request.sampling) {
    tokens = request.prompt;
    history.add_prompt(tokens);
  }

  int64_t n_tokens() const { return static_cast<int64_t>(tokens.size()); }
  int64_t n_prompt() const { return static_cast<int64_t>(request.prompt.size()); }
  int64_t n_generated() const { return n_tokens() - n_prompt(); }
  int64_t n_to_compute() const { return n_tokens() - n_computed; }

  RequestId id;
  RequestId family;  // The request that this one was forked from, at first.
  Request request;
  TokenHistory history;
  std::vector<int32_t> tokens;
  std::vector<int32_t> pages;  // Page i holds positions [i * page_tokens, (i + 1) * page_tokens).
  std::deque<int32_t> forced;  // To be appended at the next step.
  // Guesses at the tokens that follow, computed along with the last one in this step; those that turn out right are
  // accepted. Emptied when something else shall follow.
  std::vector<int32_t> draft;
  size_t n_behind_window = 0;  // Leading pages that no layer with a window will read again.
  int64_t n_computed = 0;
  bool is_running = false;
  // A fork: has the same tokens as this request and waits for its logits instead of computing its own; 0 = none.
  RequestId follows = 0;
};

}  // namespace mobilellm
