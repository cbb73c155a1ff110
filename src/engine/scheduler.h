/// Decides which tokens of which sequences go into the next batch, and who gives way when pages run out.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <unordered_map>
#include <vector>

#include "backend/backend.h"
#include "engine/block_manager.h"
#include "engine/sequence.h"

namespace mobilellm {

/// Part of a batch: tokens [n_computed, n_computed + n_tokens) of a sequence; logits are wanted when these are its
/// last.
struct ScheduledSlice {
  Sequence* sequence;
  int64_t n_tokens;
  bool wants_logits;
};

/// First come, first served. Sequences that decode take part in every batch; prompts share prefill_chunk tokens per
/// batch in order of arrival. When pages run out, the sequence that arrived last gives all of its pages back and is
/// computed again later.
class Scheduler {
 public:
  Scheduler(Runner& runner, int max_running, int prefill_chunk, int max_pages);

  void add(std::unique_ptr<Sequence> sequence);
  /// Null when unknown.
  Sequence* find(RequestId id);
  /// Frees its pages. Sequences that followed it compute for themselves from what it had, or follow the first of
  /// themselves.
  void remove(RequestId id);

  /// The next batch, with pages for all of it that no other sequence can see changes of. Empty when there is no work.
  /// Throws kResourceLimit when not even one sequence can go on; `stuck()` tells which.
  std::vector<ScheduledSlice> next_batch();
  RequestId stuck() const { return stuck_; }

  /// Gives a sequence of the batch pages for n tokens behind its last one, as far as free ones are to be had: returns
  /// for how many of them there is room.
  int64_t extend(Sequence& sequence, int64_t n);
  /// Takes back pages without computed positions.
  void trim(Sequence& sequence);

  /// `child` sees everything that `parent` computed.
  void share_pages(const Sequence& parent, Sequence& child);
  /// Sequences that follow this one, in order of arrival.
  std::vector<Sequence*> followers(RequestId id);

  bool is_empty() const { return sequences_.empty(); }
  const std::list<std::unique_ptr<Sequence>>& sequences() const { return sequences_; }
  const BlockManager& blocks() const { return blocks_; }
  int n_running() const;
  uint64_t n_preemptions() const { return n_preemptions_; }

 private:
  bool make_room(Sequence& sequence, int64_t n_tokens, bool may_preempt);
  bool preempt_after(const Sequence& sequence);
  void release_pages(Sequence& sequence);
  void leave_windows(Sequence& sequence);
  int64_t pages_for(int64_t n_tokens) const;

  Runner& runner_;
  int max_running_;
  int prefill_chunk_;
  BlockManager blocks_;
  std::vector<AttentionWindow> windows_;            // Of layers that have one.
  std::list<std::unique_ptr<Sequence>> sequences_;  // In order of arrival.
  std::unordered_map<RequestId, std::list<std::unique_ptr<Sequence>>::iterator> by_id_;
  RequestId stuck_ = 0;
  uint64_t n_preemptions_ = 0;
};

}  // namespace mobilellm
