/// A small model that says what may come next: keeps its own cache of the texts of the large one.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "backend/backend.h"
#include "engine/block_manager.h"
#include "engine/sampler/sampler.h"
#include "engine/sequence.h"

namespace mobilellm {

/// Tokens that a draft model would say next, each with its probability under that model.
struct ModelDraft {
  std::vector<int32_t> tokens;
  std::vector<double> confidences;
};

/// Computes the texts as far as it is asked to draft from them; guesses that were not accepted are computed over. Its
/// pages are freed when the sequence ends, or earlier when others need them. Not thread-safe.
class DraftModel {
 public:
  /// At most `max_pages` pages of the runner's cache are used. The runner must outlive this.
  DraftModel(Runner& runner, int max_pages);

  /// Positions of the sequence that must be computed before it can be drafted from; 1 when it is up to date.
  int64_t n_behind(const Sequence& sequence);

  /// Computes up to n of the positions it is behind by, but not the last. False when there is no memory for them.
  bool catch_up(const Sequence& sequence, int64_t n);

  struct Wish {
    const Sequence* sequence = nullptr;
    int n = 0;  ///< Most tokens, 1 or more.
  };
  /// Called for each token that the draft of wish i gets: whether it shall grow further.
  using GrowsOn = std::function<bool(size_t i, const ModelDraft& draft)>;
  /// Drafts for several sequences at once, token by token. Tokens are chosen by the sequence's own sampling rules and
  /// random numbers, so that a model that agrees with the large one says the same. A draft ends at an eos id and where
  /// the model's context or memory does; it may be empty. Throws what the runner throws.
  std::vector<ModelDraft> draft(std::span<const Wish> wishes, const GrowsOn& grows_on);

  void remove(RequestId id);
  int n_pages_used() const { return blocks_.n_used(); }

 private:
  struct Text {
    std::vector<int32_t> tokens;  // Those that are in the cache.
    size_t n_certain = 0;         // So many of them are the sequence's; the others were guesses.
    std::vector<int32_t> pages;
    bool is_wanted = false;  // By the current call.
  };
  // A draft that grows.
  struct Growing {
    size_t index;
    Text* text;
    TokenHistory history;
  };

  Text& text_of(const Sequence& sequence);
  void share_beginning(Text& text, const Sequence& sequence);
  bool make_room(Text& text, size_t n_tokens);
  bool free_unwanted();
  void release(Text& text);

  Runner& runner_;
  BlockManager blocks_;
  Sampler sampler_;
  std::unordered_map<RequestId, Text> texts_;
  std::vector<float> logits_;
};

}  // namespace mobilellm
