/// KV pages: who uses which, and how many there may be.
#pragma once

#include <cstdint>
#include <vector>

#include "backend/backend.h"

namespace mobilellm {

/// Pages have reference counts, so that sequences with a common beginning share them. The runner's storage grows by
/// doubling as pages are first used.
class BlockManager {
 public:
  /// `max_pages` 0 = as many as the runner grants.
  BlockManager(Runner& runner, int max_pages);

  /// A page with one user, or -1 when the bound is reached. Throws kResourceLimit when the runner's memory is refused.
  int allocate();
  void share(int page);
  void release(int page);
  bool is_shared(int page) const { return n_users_[static_cast<size_t>(page)] > 1; }

  /// Makes pages[index] writable for its holder: a shared page is copied first. False when no page is free.
  bool make_writable(std::vector<int32_t>& pages, size_t index);

  int n_used() const { return n_used_; }
  int n_reserved() const { return static_cast<int>(n_users_.size()); }

 private:
  Runner& runner_;
  int max_pages_;
  std::vector<int> n_users_;   // by page
  std::vector<int32_t> free_;  // stack
  int n_used_ = 0;
};

}  // namespace mobilellm
