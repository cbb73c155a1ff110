// Pinned threads that run the probes of src/kernels.
#include "measure/machine_limits.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <functional>
#include <system_error>
#include <thread>

#if defined(__linux__)
#include <sched.h>
#endif

#include "base/error.h"
#include "base/huge_memory.h"
#include "kernels/probe.h"

namespace mobilellm {
namespace {

constexpr size_t kPiece = size_t{1} << 20;  // Read by one thread at a time.

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// Cores of the affinity mask; empty where they cannot be told or set.
std::vector<int> allowed_cores() {
  std::vector<int> cores;
#if defined(__linux__)
  cpu_set_t mask;
  CPU_ZERO(&mask);
  if (sched_getaffinity(0, sizeof(mask), &mask) != 0) return cores;
  for (int core = 0; core < CPU_SETSIZE; ++core) {
    if (CPU_ISSET(core, &mask)) cores.push_back(core);
  }
#endif
  return cores;
}

void pin_to([[maybe_unused]] int core) {
#if defined(__linux__)
  cpu_set_t mask;
  CPU_ZERO(&mask);
  CPU_SET(core, &mask);
  sched_setaffinity(0, sizeof(mask), &mask);
#endif
}

// Runs task(thread) on n_threads new threads that start together; seconds from the first start to the last end.
// Without pinning, a system may put them all on one core and leave them there for as long as a measurement lasts.
double run_together(int n_threads, const std::function<void(int)>& task) {
  const std::vector<int> cores = allowed_cores();
  std::atomic<int> n_ready{0};
  std::atomic<bool> is_started{false};
  std::vector<double> ends(static_cast<size_t>(n_threads));
  std::vector<double> starts(static_cast<size_t>(n_threads));
  std::vector<std::thread> threads;
  threads.reserve(static_cast<size_t>(n_threads));
  const auto start_thread = [&](int i) {
    threads.emplace_back([&, i] {
      if (!cores.empty()) pin_to(cores[static_cast<size_t>(i) % cores.size()]);
      n_ready.fetch_add(1);
      while (!is_started.load()) std::this_thread::yield();
      starts[static_cast<size_t>(i)] = now();
      task(i);
      ends[static_cast<size_t>(i)] = now();
    });
  };
  int n_started = 0;
  try {
    for (; n_started < n_threads; ++n_started) start_thread(n_started);
  } catch (const std::system_error&) {
    // Refused: those that started still wait for their signal.
  }
  while (n_ready.load() < n_started) std::this_thread::yield();
  is_started.store(true);
  for (std::thread& thread : threads) thread.join();
  if (n_started < n_threads) {
    fail(ErrorCode::kResourceLimit, "[measure] the system granted {} of {} threads", n_started, n_threads);
  }
  return *std::max_element(ends.begin(), ends.end()) - *std::min_element(starts.begin(), starts.end());
}

}  // namespace

double measure_read_bandwidth(std::span<const std::byte> memory, int n_threads, int passes) {
  const size_t n_bytes = memory.size() / kPiece * kPiece;
  if (n_bytes == 0) return 0;
  double best = 0;
  std::atomic<uint64_t> sum{0};
  for (int pass = 0; pass < passes; ++pass) {
    std::atomic<size_t> next{0};
    const double seconds = run_together(n_threads, [&](int) {
      uint64_t own = 0;
      for (size_t at = next.fetch_add(kPiece); at < n_bytes; at = next.fetch_add(kPiece)) {
        own += read_once(memory.data() + at, kPiece);
      }
      sum.fetch_add(own);
    });
    best = std::max(best, static_cast<double>(n_bytes) / seconds);
  }
  return best;
}

double measure_read_bandwidth(size_t n_bytes, int n_threads, double seconds) {
  try {
    const HugeMemory memory(std::max(n_bytes, kPiece) / kPiece * kPiece, "measuring");
    const std::span<std::byte> bytes(memory.data(), memory.size());
    run_together(n_threads, [&](int thread) {  // Pages that were never written are all the same zero page.
      const size_t part = bytes.size() / kPiece / static_cast<size_t>(n_threads) * kPiece;
      const size_t begin = part * static_cast<size_t>(thread);
      const size_t size = thread + 1 == n_threads ? bytes.size() - begin : part;
      std::memset(bytes.data() + begin, 1, size);
    });
    const double start = now();
    double best = measure_read_bandwidth(bytes, n_threads, 1);
    while (now() - start < seconds) best = std::max(best, measure_read_bandwidth(bytes, n_threads, 1));
    return best;
  } catch (const Error&) {
    return 0;
  }
}

std::vector<ComputePeak> measure_compute_peaks(Isa isa, int n_threads, double seconds) {
  const ComputeProbe* probes[16];
  const size_t n_probes = compute_probes(isa, probes);
  std::vector<ComputePeak> peaks;
  for (const ComputeProbe* probe : std::span(probes).first(n_probes)) {
    // Turns for about a tenth of the time, found by doubling; then the best of ten.
    int64_t n_turns = 1024;
    double taken = 0;
    while (taken < seconds / 10) {
      n_turns *= 2;
      const double start = now();
      probe->run(n_turns);
      taken = now() - start;
    }
    double best = 0;
    for (int i = 0; i < 10; ++i) {
      const double run = run_together(n_threads, [&](int) { probe->run(n_turns); });
      best = std::max(best, static_cast<double>(probe->operations) * static_cast<double>(n_turns) * n_threads / run);
    }
    peaks.push_back({probe->kind, probe->instruction, best});
  }
  return peaks;
}

}  // namespace mobilellm
