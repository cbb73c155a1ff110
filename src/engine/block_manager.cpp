// Reference counts and the free list.
#include "engine/block_manager.h"

#include <algorithm>

#include "base/error.h"
#include "base/log.h"

namespace mobilellm {

BlockManager::BlockManager(int max_pages, std::function<void(int)> reserve, std::function<void(int)> forget_window)
    : max_pages_(max_pages), reserve_(std::move(reserve)), forget_window_(std::move(forget_window)) {
  MOBILELLM_CHECK(max_pages > 0);
}

bool BlockManager::grow() {
  const int old_size = n_reserved();
  if (old_size >= max_pages_) return false;
  constexpr int kFirstPages = 16;
  int wanted = std::min(max_pages_, std::max(kFirstPages, old_size + old_size / 2));
  try {
    reserve_(wanted);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kResourceLimit) throw;
    wanted = old_size + 1;
    try {
      reserve_(wanted);
    } catch (const Error& second) {
      if (second.code() != ErrorCode::kResourceLimit) throw;
      log_warning("[engine] the cache stays at {} pages: {}", old_size, second.what());
      max_pages_ = std::max(old_size, 1);
      return false;
    }
  }
  counts_.resize(static_cast<size_t>(wanted));
  for (int page = wanted - 1; page >= old_size; --page) free_.push_back(page);
  return true;
}

std::optional<int> BlockManager::allocate() {
  if (free_.empty() && !grow()) return std::nullopt;
  const int page = free_.back();
  free_.pop_back();
  counts_[static_cast<size_t>(page)] = {1, 1};
  ++n_used_;
  return page;
}

BlockManager::Count& BlockManager::count_of(int page) {
  Count& count = counts_.at(static_cast<size_t>(page));
  MOBILELLM_CHECK(count.users > 0);
  return count;
}

void BlockManager::share(int page, bool in_window) {
  Count& count = count_of(page);
  MOBILELLM_CHECK(!in_window || count.windows > 0);
  ++count.users;
  if (in_window) ++count.windows;
}

void BlockManager::release(int page, bool in_window) {
  Count& count = count_of(page);
  MOBILELLM_CHECK(!in_window || count.windows > 0);
  if (in_window) --count.windows;
  if (--count.users == 0) {
    // Written anew soon: its memory stays.
    --n_used_;
    free_.push_back(page);
  } else if (in_window && count.windows == 0) {
    forget_window_(page);
  }
}

void BlockManager::leave_window(int page) {
  Count& count = count_of(page);
  MOBILELLM_CHECK(count.windows > 0);
  if (--count.windows == 0) forget_window_(page);
}

bool BlockManager::is_shared(int page) const { return counts_.at(static_cast<size_t>(page)).users > 1; }

}  // namespace mobilellm
