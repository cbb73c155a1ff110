// Fork-join with spin-then-sleep waiting on both sides.
#include "base/thread_pool.h"

#include <algorithm>
#include <chrono>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "base/log.h"

namespace mobilellm {
namespace {

inline void pause_cpu() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Long enough to bridge the serial parts between two matrix products, short enough not to burn a busy machine's core.
constexpr auto kSpinTime = std::chrono::microseconds(30);

constexpr int kMaxThreads = 512;

// Waits until is_due(value), and returns the value.
template <typename Condition>
uint32_t wait_until(const std::atomic<uint32_t>& value, Condition is_due) {
  const auto deadline = std::chrono::steady_clock::now() + kSpinTime;
  uint32_t now = 0;
  do {
    for (int i = 0; i < 64; ++i) {
      now = value.load(std::memory_order_acquire);
      if (is_due(now)) return now;
      pause_cpu();
    }
  } while (std::chrono::steady_clock::now() < deadline);
  for (; !is_due(now); now = value.load(std::memory_order_acquire)) value.wait(now, std::memory_order_acquire);
  return now;
}

}  // namespace

ThreadPool::ThreadPool(int n_threads)
    : n_threads_(std::clamp(n_threads, 1, kMaxThreads)),
      shares_(std::make_unique<Share[]>(static_cast<size_t>(n_threads_))) {
  // Where the system grants fewer threads, the pool works with those: results do not depend on their number.
  try {
    for (int worker = 1; worker < n_threads_; ++worker) threads_.emplace_back([this, worker] { worker_loop(worker); });
  } catch (const std::system_error& error) {
    log_warning("[threads] got {} of {} threads: {}", threads_.size() + 1, n_threads_, error.what());
    n_threads_ = static_cast<int>(threads_.size()) + 1;
  }
}

ThreadPool::~ThreadPool() {
  is_stopping_.store(true, std::memory_order_relaxed);
  n_runs_.fetch_add(1, std::memory_order_release);
  n_runs_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void ThreadPool::run_erased(int64_t n_tasks, Function function, void* context) {
  if (n_tasks <= 0) return;
  if (n_threads_ == 1 || n_tasks == 1) {
    for (int64_t i = 0; i < n_tasks; ++i) function(context, i, 0);
    return;
  }
  MOBILELLM_CHECK(n_tasks <= INT32_MAX);
  function_ = function;
  context_ = context;
  n_done_.store(0, std::memory_order_relaxed);
  const auto first_of = [&](int worker) { return n_tasks * worker / n_threads_; };
  for (int worker = 0; worker < n_threads_; ++worker) shares_[static_cast<size_t>(worker)].first = first_of(worker);
  // From here on, workers that still look for tasks of the last run find these.
  for (int worker = 0; worker < n_threads_; ++worker) {
    const auto count = static_cast<uint64_t>(first_of(worker + 1) - first_of(worker));
    shares_[static_cast<size_t>(worker)].claims.store(count << 32, std::memory_order_release);
  }
  n_runs_.fetch_add(1, std::memory_order_release);
  n_runs_.notify_all();
  const uint32_t n_others = static_cast<uint32_t>(n_tasks) - work(0);
  wait_until(n_done_, [&](uint32_t n) { return n == n_others; });
  if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
}

// Returns how many tasks this worker did.
uint32_t ThreadPool::work(int worker) noexcept {
  constexpr uint64_t kClaimed = 0xffffffff;
  uint32_t n_mine = 0;
  for (int i = 0; i < n_threads_; ++i) {
    Share& share = shares_[static_cast<size_t>((worker + i) % n_threads_)];
    for (;;) {
      uint64_t claims = share.claims.load(std::memory_order_relaxed);
      if ((claims & kClaimed) >= claims >> 32) break;
      claims = share.claims.fetch_add(1, std::memory_order_acquire);
      const uint64_t index = claims & kClaimed;
      if (index >= claims >> 32) break;
      run_task(share.first + static_cast<int64_t>(index), worker);
      ++n_mine;
    }
  }
  return n_mine;
}

void ThreadPool::run_task(int64_t index, int worker) noexcept {
  try {
    function_(context_, index, worker);
  } catch (...) {
    const std::lock_guard lock(error_mutex_);
    if (!error_) error_ = std::current_exception();
  }
}

void ThreadPool::worker_loop(int worker) {
  uint32_t seen = 0;
  for (;;) {
    seen = wait_until(n_runs_, [&](uint32_t n) { return n != seen; });
    if (is_stopping_.load(std::memory_order_relaxed)) return;
    const uint32_t n_mine = work(worker);
    if (n_mine == 0) continue;
    n_done_.fetch_add(n_mine, std::memory_order_release);
    n_done_.notify_all();
  }
}

}  // namespace mobilellm
