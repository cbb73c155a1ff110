// Reference counts and the free list.
#include "engine/block_manager.h"

#include <algorithm>

#include "base/error.h"
#include "base/log.h"

namespace mobilellm {

BlockManager::BlockManager(int max_pages, std::function<void(int)> reserve)
    : max_pages_(max_pages), reserve_(std::move(reserve)) {
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
  counts_.resize(static_cast<size_t>(wanted), 0);
  for (int page = wanted - 1; page >= old_size; --page) free_.push_back(page);
  return true;
}

std::optional<int> BlockManager::allocate() {
  if (free_.empty() && !grow()) return std::nullopt;
  const int page = free_.back();
  free_.pop_back();
  counts_[static_cast<size_t>(page)] = 1;
  ++n_used_;
  return page;
}

void BlockManager::share(int page) {
  int& count = counts_.at(static_cast<size_t>(page));
  MOBILELLM_CHECK(count > 0);
  ++count;
}

void BlockManager::release(int page) {
  int& count = counts_.at(static_cast<size_t>(page));
  MOBILELLM_CHECK(count > 0);
  if (--count > 0) return;
  --n_used_;
  free_.push_back(page);
}

bool BlockManager::is_shared(int page) const { return counts_.at(static_cast<size_t>(page)) > 1; }

}  // namespace mobilellm
