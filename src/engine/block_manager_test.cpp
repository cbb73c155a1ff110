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
    struct Count {
      int users;
      int windows;
    };
    std::map<int, Count> counts;  // The model: users per page.
    std::set<int> forgotten;
    BlockManager blocks(
        50,
        [&](int n) {
          EXPECT_GT(n, n_reserved);
          n_reserved = n;
        },
        [&](int page) { EXPECT_TRUE(forgotten.insert(page).second); });
    for (uint64_t i = 0; i < 3000; ++i) {
      const uint64_t choice = random_bits(seed, 0, i) % 10;
      if (choice < 4) {
        const auto page = blocks.allocate();
        ASSERT_EQ(page.has_value(), counts.size() < 50);
        if (!page) continue;
        ASSERT_EQ(counts.count(*page), 0U) << "a page in use was handed out";
        ASSERT_LT(*page, n_reserved);
        counts[*page] = {1, 1};
        forgotten.erase(*page);
      } else if (!counts.empty()) {
        auto it = counts.begin();
        std::advance(it, static_cast<std::ptrdiff_t>(random_bits(seed, 1, i) % counts.size()));
        Count& count = it->second;
        const bool is_seen = count.windows > 0 && (count.windows == count.users || random_bits(seed, 2, i) % 2 == 0);
        if (choice < 6) {
          blocks.share(it->first, is_seen);
          ++count.users;
          count.windows += is_seen ? 1 : 0;
        } else if (choice < 7 && count.windows > 0) {
          blocks.leave_window(it->first);
          --count.windows;
          ASSERT_EQ(forgotten.count(it->first), count.windows == 0 ? 1U : 0U);
        } else {
          blocks.release(it->first, is_seen);
          count.windows -= is_seen ? 1 : 0;
          if (--count.users == 0) {
            counts.erase(it);
          } else {
            ASSERT_EQ(forgotten.count(it->first), count.windows == 0 ? 1U : 0U);
          }
        }
      }
      ASSERT_EQ(blocks.n_used(), static_cast<int>(counts.size()));
      for (const auto& [page, count] : counts) ASSERT_EQ(blocks.is_shared(page), count.users > 1);
    }
  }
}

void ignore(int) {}

TEST(BlockManager, UsesWhatTheMachineGrants) {
  BlockManager blocks(
      1000,
      [](int n) {
        if (n > 18) fail(ErrorCode::kResourceLimit, "[test] no memory");
      },
      ignore);
  std::set<int> pages;
  while (const auto page = blocks.allocate()) pages.insert(*page);
  EXPECT_EQ(pages.size(), 18U);
  EXPECT_EQ(blocks.max_pages(), 18);
  blocks.release(*pages.begin(), true);
  EXPECT_EQ(blocks.allocate(), *pages.begin());
}

TEST(BlockManager, OtherErrorsOfTheRunnerPassThrough) {
  BlockManager blocks(10, [](int) { fail(ErrorCode::kInternal, "[test] broken"); }, ignore);
  EXPECT_THROW(blocks.allocate(), Error);
}

TEST(BlockManager, MisuseIsFound) {
  BlockManager blocks(10, ignore, ignore);
  const int page = *blocks.allocate();
  blocks.leave_window(page);
  EXPECT_THROW(blocks.leave_window(page), Error);
  EXPECT_THROW(blocks.share(page, true), Error);
  EXPECT_THROW(blocks.release(page, true), Error);
  blocks.release(page, false);
  EXPECT_THROW(blocks.release(page, false), Error);
  EXPECT_THROW(blocks.share(page, false), Error);
}

}  // namespace
}  // namespace mobilellm
