/// State of one request inside the engine.
#pragma once

#include <deque>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "engine/request.h"
#include "engine/sampler/history.h"

namespace mobilellm {

struct Sequence {
  Sequence(RequestId new_id, Request new_request)
      : id(new_id),
        request(std::move(new_request)),
        history(request.sampling),
        tokens(request.prompt),
        n_prompt(static_cast<int64_t>(request.prompt.size())) {
    history.add_prompt(tokens);
  }

  RequestId id;
  Request request;
  TokenHistory history;
  std::vector<int32_t> tokens;  ///< Prompt, then generated tokens.
  int64_t n_prompt;
  int64_t n_computed = 0;  ///< Positions whose keys and values are in `pages`.
  std::vector<int32_t> pages;
  std::deque<int32_t> forced;    ///< To be appended before anything is sampled.
  std::vector<RequestId> forks;  ///< Wait for this sequence's prompt, to share its pages and first logits.
  RequestId parent = 0;          ///< The sequence this fork waits for; 0 = none.

  int64_t n_tokens() const { return static_cast<int64_t>(tokens.size()); }
  int64_t n_generated() const { return n_tokens() - n_prompt; }
  int64_t n_pending() const { return n_tokens() - n_computed; }
};

}  // namespace mobilellm
