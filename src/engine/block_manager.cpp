// Reference counts and growth.
#include "engine/block_manager.h"

#include <algorithm>

#include "base/error.h"

namespace mobilellm {

BlockManager::BlockManager(Runner& runner, int max_pages) : runner_(runner), max_pages_(max_pages) {}

int BlockManager::allocate() {
  if (free_.empty()) {
    const int have = n_reserved();
    int want = std::max(16, 2 * have);
    if (max_pages_ > 0) want = std::min(want, max_pages_);
    if (want <= have) return -1;
    runner_.reserve_pages(want);
    n_users_.resize(static_cast<size_t>(want), 0);
    // The lowest page ends on top of the stack: pages are used in rising order.
    for (int page = want - 1; page >= have; --page) free_.push_back(page);
  }
  const int page = free_.back();
  free_.pop_back();
  n_users_[static_cast<size_t>(page)] = 1;
  ++n_used_;
  return page;
}

void BlockManager::share(int page) {
  MOBILELLM_CHECK(n_users_[static_cast<size_t>(page)] > 0);
  ++n_users_[static_cast<size_t>(page)];
}

void BlockManager::release(int page) {
  int& users = n_users_[static_cast<size_t>(page)];
  MOBILELLM_CHECK(users > 0);
  if (--users > 0) return;
  free_.push_back(page);
  --n_used_;
}

bool BlockManager::make_writable(std::vector<int32_t>& pages, size_t index) {
  if (!is_shared(pages[index])) return true;
  const int copy = allocate();
  if (copy < 0) return false;
  runner_.copy_page(pages[index], copy);
  release(pages[index]);
  pages[index] = copy;
  return true;
}

}  // namespace mobilellm
