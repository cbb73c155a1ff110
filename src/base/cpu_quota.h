/// The processor time that control groups of Linux grant: containers and services have them.
#pragma once

#include <string>
#include <string_view>

namespace mobilellm {

/// Cores that the CPU quotas of a process's groups grant, rounded up; 0 when unlimited. `membership` is the text of
/// /proc/self/cgroup, `root` the folder where the groups are mounted (/sys/fs/cgroup). The smallest quota of the group
/// and of those above it counts, of version 2 ("cpu.max") and of version 1 ("cpu/cpu.cfs_quota_us"). Within a container
/// that sees its own group as the root, the root's files are read.
int cpu_quota_cores(std::string_view membership, const std::string& root);

}  // namespace mobilellm
