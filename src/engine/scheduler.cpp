// Admission, batching and preemption.
#include "engine/scheduler.h"

#include <algorithm>

#include "base/error.h"

namespace mobilellm {

Scheduler::Scheduler(Runner& runner, int max_running, int prefill_chunk, int max_pages)
    : runner_(runner),
      max_running_(max_running),
      prefill_chunk_(prefill_chunk),
      blocks_(
          max_pages, [&runner](int n_pages) { runner.reserve_pages(n_pages); },
          [&runner](int page) { runner.forget_window(page); }) {
  for (const LayerSpec& layer : runner.spec().layers) {
    if (layer.window.kind != AttentionWindow::Kind::kFull) windows_.push_back(layer.window);
  }
}

int64_t Scheduler::pages_for(int64_t n_tokens) const {
  const int64_t page_tokens = runner_.page_tokens();
  return (n_tokens + page_tokens - 1) / page_tokens;
}

void Scheduler::add(std::unique_ptr<Sequence> sequence) {
  const RequestId id = sequence->id;
  by_id_[id] = sequences_.insert(sequences_.end(), std::move(sequence));
}

Sequence* Scheduler::find(RequestId id) {
  const auto found = by_id_.find(id);
  return found == by_id_.end() ? nullptr : found->second->get();
}

std::vector<Sequence*> Scheduler::followers(RequestId id) {
  std::vector<Sequence*> result;
  for (const auto& sequence : sequences_) {
    if (sequence->follows == id) result.push_back(sequence.get());
  }
  return result;
}

void Scheduler::release_pages(Sequence& sequence) {
  for (size_t i = 0; i < sequence.pages.size(); ++i) blocks_.release(sequence.pages[i], i >= sequence.n_behind_window);
  sequence.pages.clear();
  sequence.n_behind_window = 0;
  sequence.n_computed = 0;
  sequence.is_running = false;
}

void Scheduler::share_pages(const Sequence& parent, Sequence& child) {
  release_pages(child);
  // Only pages with computed positions: the rest would be copied before the first write anyway.
  const auto n_pages = static_cast<size_t>(pages_for(parent.n_computed));
  child.pages.assign(parent.pages.begin(), parent.pages.begin() + static_cast<std::ptrdiff_t>(n_pages));
  for (size_t i = 0; i < n_pages; ++i) blocks_.share(child.pages[i], i >= parent.n_behind_window);
  child.n_behind_window = parent.n_behind_window;
  child.n_computed = parent.n_computed;
}

void Scheduler::remove(RequestId id) {
  const auto found = by_id_.find(id);
  if (found == by_id_.end()) return;
  const auto it = found->second;
  Sequence* heir = nullptr;
  for (Sequence* follower : followers(id)) {
    follower->follows = heir == nullptr ? 0 : heir->id;
    if (heir == nullptr) {
      heir = follower;
      share_pages(**it, *heir);
    }
  }
  release_pages(**it);
  sequences_.erase(it);
  by_id_.erase(found);
}

int Scheduler::n_running() const {
  return static_cast<int>(
      std::count_if(sequences_.begin(), sequences_.end(), [](const auto& sequence) { return sequence->is_running; }));
}

// Takes the pages of the last sequence that came after this one. False when there is none with pages.
bool Scheduler::preempt_after(const Sequence& sequence) {
  for (auto it = sequences_.rbegin(); it != sequences_.rend() && it->get() != &sequence; ++it) {
    if ((*it)->pages.empty()) continue;
    release_pages(**it);
    ++n_preemptions_;
    return true;
  }
  return false;
}

// Pages that the windows of the tokens to come no longer reach.
void Scheduler::leave_windows(Sequence& sequence) {
  if (windows_.empty()) return;
  int64_t first = sequence.n_computed;
  for (const AttentionWindow& window : windows_) first = std::min(first, window.first_visible(sequence.n_computed));
  for (; static_cast<int64_t>(sequence.n_behind_window) < first / runner_.page_tokens(); ++sequence.n_behind_window) {
    blocks_.leave_window(sequence.pages[sequence.n_behind_window]);
  }
}

// Gives the sequence its own pages for the next n tokens. False when none are to be had.
bool Scheduler::make_room(Sequence& sequence, int64_t n_tokens, bool may_preempt) {
  const auto allocate = [&] {
    auto page = blocks_.allocate();
    while (!page && may_preempt && preempt_after(sequence)) page = blocks_.allocate();
    return page;
  };
  leave_windows(sequence);
  const auto n_pages = static_cast<size_t>(pages_for(sequence.n_computed + n_tokens));
  // Copy on write: others may still read what lies in a shared page.
  for (auto i = static_cast<size_t>(sequence.n_computed / runner_.page_tokens());
       i < std::min(n_pages, sequence.pages.size()); ++i) {
    if (!blocks_.is_shared(sequence.pages[i])) continue;
    const auto page = allocate();
    if (!page) return false;
    // Preemption may have made this sequence the only user meanwhile.
    if (!blocks_.is_shared(sequence.pages[i])) {
      blocks_.release(*page, true);
      continue;
    }
    runner_.copy_page(sequence.pages[i], *page);
    blocks_.release(sequence.pages[i], true);
    sequence.pages[i] = *page;
  }
  while (sequence.pages.size() < n_pages) {
    const auto page = allocate();
    if (!page) return false;
    sequence.pages.push_back(*page);
  }
  return true;
}

int64_t Scheduler::extend(Sequence& sequence, int64_t n) {
  if (make_room(sequence, sequence.n_to_compute() + n, false)) return n;
  const int64_t room = static_cast<int64_t>(sequence.pages.size()) * runner_.page_tokens();
  return std::clamp<int64_t>(room - sequence.n_tokens(), 0, n);
}

void Scheduler::trim(Sequence& sequence) {
  const auto n_pages = static_cast<size_t>(pages_for(sequence.n_computed));
  while (sequence.pages.size() > n_pages) {
    blocks_.release(sequence.pages.back(), true);
    sequence.pages.pop_back();
  }
}

std::vector<ScheduledSlice> Scheduler::next_batch() {
  std::vector<ScheduledSlice> batch;
  int64_t prefill_left = prefill_chunk_;
  int n_active = n_running();
  bool may_admit = true;
  bool is_first = true;
  for (const auto& owned : sequences_) {
    Sequence& sequence = *owned;
    if (sequence.follows != 0) continue;
    // Everything is computed, but the next token was not taken: the last step was left early. Its logits are needed.
    if (sequence.n_to_compute() == 0) --sequence.n_computed;
    const bool had_others = !is_first;
    is_first = false;
    if (!sequence.is_running) {
      // The first in line needs no free pages at the start: it may take those of all others.
      const bool has_pages = pages_for(sequence.n_tokens()) <=
                             blocks_.max_pages() - blocks_.n_used() + static_cast<int64_t>(sequence.pages.size());
      may_admit = may_admit && n_active < max_running_ && (!had_others || has_pages);
      if (!may_admit) continue;
    }
    int64_t n_tokens = sequence.n_to_compute();
    if (n_tokens > 1) {
      n_tokens = std::min(n_tokens, prefill_left);
      if (n_tokens == 0) continue;
    }
    const int running_before = n_running();
    if (!make_room(sequence, n_tokens, true)) {
      if (!had_others) {
        stuck_ = sequence.id;
        fail(ErrorCode::kResourceLimit,
             "[engine] no memory for the cache of a sequence of {} tokens: {} pages of {} used", sequence.n_tokens(),
             blocks_.n_used(), blocks_.max_pages());
      }
      may_admit = false;  // Those who wait longer get free pages first.
      continue;
    }
    n_active -= running_before - n_running();
    if (!sequence.is_running) {
      sequence.is_running = true;
      ++n_active;
    }
    if (sequence.n_to_compute() > 1) prefill_left -= n_tokens;
    batch.push_back({&sequence, n_tokens, n_tokens == sequence.n_to_compute()});
  }
  return batch;
}

}  // namespace mobilellm
