/// Processor time of this process and of everything else, and peak memory: how quiet a measurement was.
#pragma once

#include <cstdint>

namespace mobilellm {

/// A moment to measure from.
class CpuUsage {
 public:
  CpuUsage();  ///< Now.
  /// Share (0 to 1) of the machine's processor time since `this` was made that other processes and the host took.
  /// 0 where the system does not tell.
  double others_share() const;

 private:
  double wall_s_ = 0;
  double busy_s_ = 0;  // All processes, and time stolen by the host.
  double own_s_ = 0;
};

/// Largest resident set of this process so far.
int64_t peak_memory_bytes();

}  // namespace mobilellm
