/// Hands out pages of the KV cache, counts who uses each, and grows the cache when none is free.
#pragma once

#include <functional>
#include <optional>
#include <vector>

namespace mobilellm {

/// Page ids 0 .. n_reserved() - 1. A page is free (count 0), owned by one sequence (1) or shared (2 or more).
class BlockManager {
 public:
  /// `reserve(n)` makes pages 0 .. n - 1 usable and may throw kResourceLimit. At most `max_pages` are ever used.
  BlockManager(int max_pages, std::function<void(int)> reserve);

  /// A page with count 1, or nothing when the limit is reached or memory was refused.
  std::optional<int> allocate();
  void share(int page);    ///< One more user.
  void release(int page);  ///< One user less; the last one frees it.
  bool is_shared(int page) const;

  int n_used() const { return n_used_; }
  int n_reserved() const { return static_cast<int>(counts_.size()); }
  int max_pages() const { return max_pages_; }

 private:
  bool grow();

  int max_pages_;
  std::function<void(int)> reserve_;
  std::vector<int> counts_;  // By page.
  std::vector<int> free_;    // Last freed first: most likely still in the processor's caches.
  int n_used_ = 0;
};

}  // namespace mobilellm
