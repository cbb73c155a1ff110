// Affinity mask, cgroup quota, /proc/cpuinfo.
#include "base/topology.h"

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>

#if defined(__linux__)
#include <sched.h>
#include <unistd.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#endif

#include "base/cpu_quota.h"

namespace mobilellm {
namespace {

// Control groups of this process, a line each; "" where there are none.
std::string group_membership() {
  std::ifstream file("/proc/self/cgroup");
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

}  // namespace

CoreLimits core_limits() {
  CoreLimits limits;
  limits.present = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  limits.allowed = limits.present;
#if defined(__linux__)
  const long online = ::sysconf(_SC_NPROCESSORS_ONLN);
  if (online > 0) limits.present = static_cast<int>(online);
  cpu_set_t mask;
  CPU_ZERO(&mask);
  if (sched_getaffinity(0, sizeof(mask), &mask) == 0) limits.allowed = std::max(1, CPU_COUNT(&mask));
#endif
  limits.quota = cpu_quota_cores(group_membership(), "/sys/fs/cgroup");
  return limits;
}

int usable_cores() {
  const CoreLimits limits = core_limits();
  return limits.quota > 0 ? std::min(limits.allowed, limits.quota) : limits.allowed;
}

std::string cpu_name() {
#if defined(__APPLE__)
  char name[128] = {};
  size_t size = sizeof(name) - 1;
  return ::sysctlbyname("machdep.cpu.brand_string", name, &size, nullptr, 0) == 0 ? name : "";
#else
  std::FILE* file = std::fopen("/proc/cpuinfo", "r");
  if (file == nullptr) return {};
  std::string name;
  char line[512];
  while (name.empty() && std::fgets(line, sizeof(line), file) != nullptr) {
    char value[256];
    if (std::sscanf(line, "model name : %255[^\n]", value) == 1) name = value;
  }
  std::fclose(file);
  return name;
#endif
}

}  // namespace mobilellm
