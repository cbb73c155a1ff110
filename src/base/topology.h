/// How many cores this process may really use.
#pragma once

namespace mobilellm {

/// Cores in the affinity mask, lowered to the container's CPU quota (cgroup v1 or v2), at least 1.
int usable_cores();

}  // namespace mobilellm
