// Page accounting under random use, limits and refused memory.
#include "engine/block_manager.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "base/error.h"
#include "base/random.h"

namespace mobilellm {
namespace {

TEST(BlockManager, RandomUseKeepsCountsRight) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    int n_reserved = 0;
    BlockManager blocks(50, [&](int n) {
      EXPECT_GT(n, n_reserved);
      n_reserved = n;
    });
    std::map<int, int> counts;  // The model: users per page.
    for (uint64_t i = 0; i < 2000; ++i) {
      const uint64_t choice = random_bits(seed, 0, i) % 10;
      if (choice < 4) {
        const auto page = blocks.allocate();
        ASSERT_EQ(page.has_value(), counts.size() < 50);
        if (!page) continue;
        ASSERT_EQ(counts.count(*page), 0U) << "a page in use was handed out";
        ASSERT_LT(*page, n_reserved);
        counts[*page] = 1;
      } else if (!counts.empty()) {
        auto it = counts.begin();
        std::advance(it, static_cast<std::ptrdiff_t>(random_bits(seed, 1, i) % counts.size()));
        if (choice < 6) {
          blocks.share(it->first);
          ++it->second;
        } else {
          blocks.release(it->first);
          if (--it->second == 0) counts.erase(it);
        }
      }
      ASSERT_EQ(blocks.n_used(), static_cast<int>(counts.size()));
      for (const auto& [page, count] : counts) ASSERT_EQ(blocks.is_shared(page), count > 1);
    }
  }
}

TEST(BlockManager, UsesWhatTheMachineGrants) {
  BlockManager blocks(1000, [](int n) {
    if (n > 18) fail(ErrorCode::kResourceLimit, "[test] no memory");
  });
  std::set<int> pages;
  while (const auto page = blocks.allocate()) pages.insert(*page);
  EXPECT_EQ(pages.size(), 18U);
  EXPECT_EQ(blocks.max_pages(), 18);
  blocks.release(*pages.begin());
  EXPECT_EQ(blocks.allocate(), *pages.begin());
}

TEST(BlockManager, OtherErrorsOfTheRunnerPassThrough) {
  BlockManager blocks(10, [](int) { fail(ErrorCode::kInternal, "[test] broken"); });
  EXPECT_THROW(blocks.allocate(), Error);
}

TEST(BlockManager, MisuseIsFound) {
  BlockManager blocks(10, [](int) {});
  const int page = *blocks.allocate();
  blocks.release(page);
  EXPECT_THROW(blocks.release(page), Error);
  EXPECT_THROW(blocks.share(page), Error);
}

}  // namespace
}  // namespace mobilellm
