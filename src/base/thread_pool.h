/// A fork-join pool: one caller hands out numbered tasks and takes part in the work.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

namespace mobilellm {

/// Each worker has a share of neighbouring tasks; whoever is done helps the others. A run waits for the tasks that were
/// begun and for no thread that has not come yet, so a worker that lost its core to another program delays at most the
/// one task it holds. Idle workers spin for some microseconds, then sleep: a busy machine is not made busier.
/// One thread at a time may call run(); results must not depend on which worker ran which task.
class ThreadPool {
 public:
  /// `n_threads` >= 1 counts the caller.
  explicit ThreadPool(int n_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int n_threads() const { return n_threads_; }

  /// Calls task(index, worker) for index in [0, n_tasks), n_tasks < 2^31, worker in [0, n_threads). Returns when all
  /// are done. The first exception of a task is rethrown here after the others have ended.
  template <typename Task>
  void run(int64_t n_tasks, Task&& task) {
    using Plain = std::remove_reference_t<Task>;
    run_erased(
        n_tasks, [](void* context, int64_t index, int worker) { (*static_cast<Plain*>(context))(index, worker); },
        const_cast<void*>(static_cast<const void*>(&task)));
  }

 private:
  using Function = void (*)(void* context, int64_t index, int worker);
  void run_erased(int64_t n_tasks, Function function, void* context);
  // Tasks of one worker; a cache line each, so that claiming is cheap while nobody helps.
  struct alignas(64) Share {
    // How many tasks there are, times 2^32, plus how many are claimed. A claim is good when it was below the count;
    // until it is done, nothing here changes.
    std::atomic<uint64_t> claims{0};
    int64_t first = 0;
  };
  uint32_t work(int worker) noexcept;
  void run_task(int64_t index, int worker) noexcept;
  void worker_loop(int worker);

  int n_threads_;
  Function function_ = nullptr;
  void* context_ = nullptr;
  std::unique_ptr<Share[]> shares_;              // One per worker.
  alignas(64) std::atomic<uint32_t> n_runs_{0};  // Sleepers wake when it changes.
  alignas(64) std::atomic<uint32_t> n_done_{0};  // Tasks that workers have done for this run, told when they leave.
  std::atomic<bool> is_stopping_{false};
  std::mutex error_mutex_;
  std::exception_ptr error_;
  std::vector<std::thread> threads_;
};

}  // namespace mobilellm
