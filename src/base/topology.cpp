// Affinity mask, cgroup quota, /proc/cpuinfo.
#include "base/topology.h"

#include <algorithm>
#include <cstdio>
#include <string>
#include <thread>

#if defined(__linux__)
#include <sched.h>
#include <unistd.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace mobilellm {
namespace {

// A small control file's text, or "" when it cannot be read: every container has its own set of them.
std::string read_control_file(const char* path) {
  // These files report a size of 0, so they are read through stdio.
  std::FILE* file = std::fopen(path, "r");
  if (file == nullptr) return {};
  char buffer[128];
  const size_t n = std::fread(buffer, 1, sizeof(buffer), file);
  std::fclose(file);
  return std::string(buffer, n);
}

// Cores that the quota grants, 0 when unlimited.
int quota_cores() {
  long long quota = -1;
  long long period = 0;
  const std::string v2 = read_control_file("/sys/fs/cgroup/cpu.max");
  if (std::sscanf(v2.c_str(), "%lld %lld", &quota, &period) != 2) {
    quota = -1;
    const std::string v1_quota = read_control_file("/sys/fs/cgroup/cpu/cpu.cfs_quota_us");
    const std::string v1_period = read_control_file("/sys/fs/cgroup/cpu/cpu.cfs_period_us");
    if (std::sscanf(v1_quota.c_str(), "%lld", &quota) != 1 || std::sscanf(v1_period.c_str(), "%lld", &period) != 1)
      return 0;
  }
  if (quota <= 0 || period <= 0) return 0;
  return static_cast<int>(std::max(1LL, (quota + period - 1) / period));
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
  limits.quota = quota_cores();
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
