/// What the machine can do at most: read bandwidth and arithmetic, measured with as many threads as a runner uses.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "base/cpu_features.h"

namespace mobilellm {

/// Threads on cores of their own, where the system allows it, all start together.
/// Best of `passes` over [data, data + size), bytes per second.
double measure_read_bandwidth(std::span<const std::byte> memory, int n_threads, int passes);

/// The same over fresh memory on huge pages where there are any; the best of the passes that fit into about
/// `seconds`. Returns 0 when the system refuses the memory.
double measure_read_bandwidth(size_t n_bytes, int n_threads, double seconds);

struct ComputePeak {
  std::string kind;         ///< "f32", "bf16" or "int8"
  std::string instruction;  ///< "vpdpbusd zmm"
  double operations = 0;    ///< Per second, all threads; a multiplication and an addition are two.
};

/// One entry per instruction that `isa` may use, each measured for about `seconds`.
std::vector<ComputePeak> measure_compute_peaks(Isa isa, int n_threads, double seconds);

struct MachineLimits {
  double bandwidth = 0;        ///< Bytes per second that all threads read from a set of the model's size.
  double bandwidth_large = 0;  ///< The same from a set far larger than any cache.
  ComputePeak peak;            ///< The fastest.
  std::vector<ComputePeak> peaks;
};

}  // namespace mobilellm
