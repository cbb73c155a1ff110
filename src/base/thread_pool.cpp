// Fork-join with spin-then-sleep waiting on both sides.
#include "base/thread_pool.h"

#include <algorithm>
#include <chrono>
#include <system_error>
#include <utility>

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

// Waits until `value` differs from `old`.
template <typename T>
void wait_while_equal(const std::atomic<T>& value, T old) {
  const auto deadline = std::chrono::steady_clock::now() + kSpinTime;
  do {
    for (int i = 0; i < 64; ++i) {
      if (value.load(std::memory_order_acquire) != old) return;
      pause_cpu();
    }
  } while (std::chrono::steady_clock::now() < deadline);
  value.wait(old, std::memory_order_acquire);
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
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void ThreadPool::run_erased(int64_t n_tasks, Function function, void* context) {
  if (n_tasks <= 0) return;
  if (n_threads_ == 1 || n_tasks == 1) {
    for (int64_t i = 0; i < n_tasks; ++i) function(context, i, 0);
    return;
  }
  function_ = function;
  context_ = context;
  for (int worker = 0; worker < n_threads_; ++worker) {
    Share& share = shares_[static_cast<size_t>(worker)];
    share.next.store(n_tasks * worker / n_threads_, std::memory_order_relaxed);
    share.end = n_tasks * (worker + 1) / n_threads_;
  }
  n_running_.store(n_threads_ - 1, std::memory_order_relaxed);
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  work(0);
  for (int running = n_running_.load(std::memory_order_acquire); running != 0;
       running = n_running_.load(std::memory_order_acquire)) {
    wait_while_equal(n_running_, running);
  }
  if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
}

void ThreadPool::work(int worker) noexcept {
  for (int i = 0; i < n_threads_; ++i) {
    Share& share = shares_[static_cast<size_t>((worker + i) % n_threads_)];
    while (share.next.load(std::memory_order_relaxed) < share.end) {
      const int64_t index = share.next.fetch_add(1, std::memory_order_relaxed);
      if (index < share.end) run_task(index, worker);
    }
  }
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
    wait_while_equal(generation_, seen);
    seen = generation_.load(std::memory_order_acquire);
    if (is_stopping_.load(std::memory_order_relaxed)) return;
    work(worker);
    if (n_running_.fetch_sub(1, std::memory_order_acq_rel) == 1) n_running_.notify_one();
  }
}

}  // namespace mobilellm
