/// Processor time of this process and of everything else, and peak memory: how quiet a measurement was.
#pragma once

#include <cstdint>

namespace mobilellm {

/// A moment to measure from.
class CpuUsage {
 public:
  CpuUsage();  ///< Now.
  /// Processor seconds since then that other processes and the host took; 0 where the system does not tell.
  double others_seconds() const;

 private:
  double busy_s_ = 0;  // All processes, and time stolen by the host.
  double own_s_ = 0;
};

/// Largest resident set of this process since its start or the last reset.
int64_t peak_memory_bytes();
/// Makes the peak start again from what is resident now; false where the system cannot.
bool reset_peak_memory();

}  // namespace mobilellm
