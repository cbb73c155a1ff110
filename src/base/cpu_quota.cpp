// Reads the quotas from a process's group up to the root.
#include "base/cpu_quota.h"

#include <algorithm>
#include <cstdio>

namespace mobilellm {
namespace {

// A small control file's text, or "" when it cannot be read.
std::string read_control_file(const std::string& path) {
  // These files report a size of 0, so they are read through stdio.
  std::FILE* file = std::fopen(path.c_str(), "r");
  if (file == nullptr) return {};
  char buffer[128];
  const size_t n = std::fread(buffer, 1, sizeof(buffer), file);
  std::fclose(file);
  return std::string(buffer, n);
}

// Cores of one group, 0 when it has no quota.
int group_cores(const std::string& folder, bool is_v2) {
  long long quota = -1;
  long long period = 0;
  if (is_v2) {
    if (std::sscanf(read_control_file(folder + "/cpu.max").c_str(), "%lld %lld", &quota, &period) != 2) return 0;
  } else {
    if (std::sscanf(read_control_file(folder + "/cpu.cfs_quota_us").c_str(), "%lld", &quota) != 1) return 0;
    if (std::sscanf(read_control_file(folder + "/cpu.cfs_period_us").c_str(), "%lld", &period) != 1) return 0;
  }
  if (quota <= 0 || period <= 0) return 0;
  return static_cast<int>(std::clamp((quota - 1) / period + 1, 1LL, 1LL << 20));
}

bool lists(std::string_view controllers, std::string_view name) {
  for (size_t begin = 0; begin <= controllers.size();) {
    const size_t end = std::min(controllers.find(',', begin), controllers.size());
    if (controllers.substr(begin, end - begin) == name) return true;
    begin = end + 1;
  }
  return false;
}

}  // namespace

int cpu_quota_cores(std::string_view membership, const std::string& root) {
  int least = 0;
  // Lines are ID:CONTROLLERS:PATH, with no controllers for version 2.
  while (!membership.empty()) {
    const std::string_view line = membership.substr(0, membership.find('\n'));
    membership.remove_prefix(std::min(membership.size(), line.size() + 1));
    const size_t first = line.find(':');
    const size_t second = first == std::string_view::npos ? first : line.find(':', first + 1);
    if (second == std::string_view::npos) continue;
    const std::string_view controllers = line.substr(first + 1, second - first - 1);
    const bool is_v2 = controllers.empty();
    if (!is_v2 && !lists(controllers, "cpu")) continue;
    const std::string mount = is_v2 ? root : root + "/cpu";
    for (std::string path(line.substr(second + 1));;) {
      while (path.ends_with('/')) path.pop_back();
      const int cores = group_cores(mount + path, is_v2);
      if (cores > 0 && (least == 0 || cores < least)) least = cores;
      if (path.empty()) break;
      path.resize(path.rfind('/') == std::string::npos ? 0 : path.rfind('/'));
    }
  }
  return least;
}

}  // namespace mobilellm
