/// Hands out pages of the KV cache, counts who uses each, and grows the cache when none is free.
#pragma once

#include <functional>
#include <optional>
#include <vector>

namespace mobilellm {

/// Page ids 0 .. n_reserved() - 1. A page is free (count 0), owned by one sequence (1) or shared (2 or more).
/// Besides, it counts the users whose attention windows still reach the page: without any, layers with a window need it
/// no more.
class BlockManager {
 public:
  /// `reserve(n)` makes pages 0 .. n - 1 usable and may throw kResourceLimit. At most `max_pages` are ever used.
  /// `forget_window(page)` is called when the last window has left a page that is still used; without it, nobody may
  /// call leave_window().
  BlockManager(int max_pages, std::function<void(int)> reserve, std::function<void(int)> forget_window = {});

  /// A page with count 1, or nothing when the limit is reached or memory was refused.
  std::optional<int> allocate();
  /// One more user, whose windows reach the page or not.
  void share(int page, bool in_window = true);
  /// One user less; the last one frees it.
  void release(int page, bool in_window = true);
  /// A user's windows have left the page.
  void leave_window(int page);
  bool is_shared(int page) const;

  int n_used() const { return n_used_; }
  int n_reserved() const { return static_cast<int>(counts_.size()); }
  int max_pages() const { return max_pages_; }

 private:
  bool grow();
  struct Count {
    int users = 0;
    int windows = 0;  // Users whose windows reach it.
  };
  Count& count_of(int page);

  int max_pages_;
  std::function<void(int)> reserve_;
  std::function<void(int)> forget_window_;
  std::vector<Count> counts_;  // By page.
  std::vector<int> free_;      // Last freed first: most likely still in the processor's caches.
  int n_used_ = 0;
};

}  // namespace mobilellm
