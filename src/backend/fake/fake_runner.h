/// A runner without weights, for tests of engine and pipeline: the next token is a function of everything the pages
/// hold.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <span>
#include <vector>

#include "backend/backend.h"

namespace mobilellm {

struct FakeRunnerOptions {
  int vocab_size = 64;
  int page_tokens = 4;
  int64_t max_context = 256;
  int64_t window = 0;       ///< Size of a sliding window in a layer besides one that sees everything; 0 = none.
  int max_pages = 1 << 20;  ///< reserve_pages() beyond this throws kResourceLimit, as a full machine would.
  std::vector<int64_t> eos_ids = {};
};

/// A page keeps the token and position of each slot. forward() reads the whole visible history back through the page
/// list, so a wrong, stale or shared-and-overwritten page either throws kInternal (holes, wrong positions) or changes
/// the tokens that follow.
class FakeRunner final : public Runner {
 public:
  /// The token that shall follow a history, or nothing for the pseudo-random one.
  using Script = std::function<std::optional<int32_t>(std::span<const int32_t> history)>;

  explicit FakeRunner(const FakeRunnerOptions& options);

  void set_script(Script script) { script_ = std::move(script); }
  /// After exactly this prompt the model says these tokens, then pseudo-random ones. Forced tokens in between take the
  /// place of the ones they replace.
  void script_reply(std::vector<int32_t> prompt, std::vector<int32_t> reply);
  /// From the n-th forward on, every logit is NaN; -1 = never.
  void break_after(int n_forwards) { break_after_ = n_forwards; }

  /// The token that follows `history` by the pseudo-random rule: what a correct engine must produce greedily.
  int32_t expected_token(std::span<const int32_t> history) const;
  int n_forwards() const { return n_forwards_; }
  int64_t n_tokens_computed() const { return n_tokens_computed_; }
  size_t largest_batch() const { return largest_batch_; }

  const ModelSpec& spec() const override { return spec_; }
  int page_tokens() const override { return options_.page_tokens; }
  size_t kv_bytes_per_token() const override { return sizeof(Slot); }
  void reserve_pages(int n_pages) override;
  void copy_page(int from, int to) override;
  void forget_window(int page) override;
  /// Times that forget_window() was called.
  int n_forgotten() const { return n_forgotten_; }
  void forward(std::span<const SequenceSlice> batch, float* logits) override;

 private:
  struct Slot {
    int32_t token = -1;
    int64_t pos = -1;
    bool is_in_window = false;  // Of the layer with a window.
  };
  Slot& slot(std::span<const int32_t> pages, int64_t pos);
  void write_logits(std::span<const int32_t> history, float* logits) const;

  FakeRunnerOptions options_;
  ModelSpec spec_;
  std::vector<std::vector<Slot>> pages_;
  Script script_;
  std::map<std::vector<int32_t>, std::vector<int32_t>> replies_;
  int break_after_ = -1;
  int n_forwards_ = 0;
  int n_forgotten_ = 0;
  int64_t n_tokens_computed_ = 0;
  size_t largest_batch_ = 0;
};

}  // namespace mobilellm
