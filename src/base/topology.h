/// What the machine is: how many cores this process may really use, and the processor's name.
#pragma once

#include <string>

namespace mobilellm {

/// What bounds the number of cores.
struct CoreLimits {
  int present = 1;  ///< Of the machine, online.
  int allowed = 1;  ///< In the affinity mask.
  int quota = 0;    ///< Of the container (cgroup v1 or v2), rounded up; 0 = unlimited.
};
CoreLimits core_limits();

/// Cores in the affinity mask, lowered to the container's CPU quota (cgroup v1 or v2), at least 1.
int usable_cores();

/// The processor's name as the system tells it, or "" when it does not.
std::string cpu_name();

}  // namespace mobilellm
