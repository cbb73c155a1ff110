/// What the machine is: how many cores this process may really use, and the processor's name.
#pragma once

#include <string>

namespace mobilellm {

/// Cores in the affinity mask, lowered to the container's CPU quota (cgroup v1 or v2), at least 1.
int usable_cores();

/// The processor's name as the system tells it, or "" when it does not.
std::string cpu_name();

}  // namespace mobilellm
