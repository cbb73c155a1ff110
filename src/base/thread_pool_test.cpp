#include "base/thread_pool.h"

#include <gtest/gtest.h>

#include <stdexcept>

namespace mobilellm {
namespace {

TEST(ThreadPool, RunsEveryTaskOnce) {
  for (const int n_threads : {1, 2, 3, 7}) {
    ThreadPool pool(n_threads);
    for (int round = 0; round < 200; ++round) {
      std::vector<std::atomic<int>> counts(static_cast<size_t>(round));
      pool.run(round, [&](int64_t index, int worker) {
        ASSERT_LT(worker, n_threads);
        counts[static_cast<size_t>(index)].fetch_add(1);
      });
      for (const auto& count : counts) ASSERT_EQ(count.load(), 1);
    }
  }
}

// More threads than cores: most come late to most runs, or not at all, and must not touch the run after.
TEST(ThreadPool, LateWorkersMissARunOrTakePartInIt) {
  ThreadPool pool(16);
  for (int round = 0; round < 5000; ++round) {
    std::vector<int> results(5, -1);
    pool.run(5, [&](int64_t index, int) { results[static_cast<size_t>(index)] = round; });
    ASSERT_EQ(results, std::vector<int>(5, round));
  }
}

TEST(ThreadPool, RethrowsATasksException) {
  ThreadPool pool(3);
  EXPECT_THROW(pool.run(50,
                        [](int64_t index, int) {
                          if (index == 17) throw std::runtime_error("task 17");
                        }),
               std::runtime_error);
  int64_t sum = 0;
  std::mutex mutex;
  pool.run(10, [&](int64_t index, int) {
    const std::lock_guard lock(mutex);
    sum += index;
  });
  EXPECT_EQ(sum, 45);
}

}  // namespace
}  // namespace mobilellm
