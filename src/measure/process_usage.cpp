// getrusage and the files below /proc.
#include "measure/process_usage.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

namespace mobilellm {
namespace {

double own_seconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// user, nice, system, irq, softirq and steal of all cores; -1 where there is no /proc/stat.
double busy_seconds() {
  std::FILE* file = std::fopen("/proc/stat", "r");
  if (file == nullptr) return -1;
  long long user = 0, nice = 0, system = 0, idle = 0, iowait = 0, irq = 0, softirq = 0, steal = 0;
  const int n = std::fscanf(file, "cpu %lld %lld %lld %lld %lld %lld %lld %lld", &user, &nice, &system, &idle, &iowait,
                            &irq, &softirq, &steal);
  std::fclose(file);
  if (n < 7) return -1;
  return static_cast<double>(user + nice + system + irq + softirq + steal) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

}  // namespace

CpuUsage::CpuUsage() : busy_s_(busy_seconds()), own_s_(own_seconds()) {}

double CpuUsage::others_seconds() const {
  const double busy = busy_seconds();
  if (busy < 0 || busy_s_ < 0) return 0;
  return std::max(0.0, busy - busy_s_ - (own_seconds() - own_s_));
}

int64_t peak_memory_bytes() {
  // Not ru_maxrss first: on Linux it starts at the size of the process that started this one.
  if (std::FILE* file = std::fopen("/proc/self/status", "r"); file != nullptr) {
    long long kib = 0;
    char line[256];
    while (std::fgets(line, sizeof(line), file) != nullptr && std::sscanf(line, "VmHWM: %lld", &kib) != 1) {
    }
    std::fclose(file);
    if (kib > 0) return kib * 1024;
  }
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
#if defined(__APPLE__)
  return usage.ru_maxrss;
#else
  return int64_t{usage.ru_maxrss} * 1024;
#endif
}

bool reset_peak_memory() {
  std::FILE* file = std::fopen("/proc/self/clear_refs", "w");
  if (file == nullptr) return false;
  const bool is_written = std::fwrite("5", 1, 1, file) == 1;
  return std::fclose(file) == 0 && is_written;
}

}  // namespace mobilellm
