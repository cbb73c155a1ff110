// Small control files of the system, and trials where they do not tell.
#include "measure/machine_facts.h"

#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "base/error.h"
#include "base/huge_memory.h"
#include "measure/process_usage.h"

namespace mobilellm {
namespace {

std::string first_line(const char* path) {
  std::FILE* file = std::fopen(path, "r");
  if (file == nullptr) return {};
  char line[256] = {};
  const bool is_read = std::fgets(line, sizeof(line), file) != nullptr;
  std::fclose(file);
  std::string text = is_read ? line : "";
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

// The number after `key` in a file of "key: number kB" lines, in bytes; 0 when absent.
int64_t kib_field(const char* path, const char* key) {
  std::FILE* file = std::fopen(path, "r");
  if (file == nullptr) return 0;
  char line[256];
  long long kib = 0;
  const size_t length = std::strlen(key);
  while (std::fgets(line, sizeof(line), file) != nullptr) {
    if (std::strncmp(line, key, length) == 0 && std::sscanf(line + length, ": %lld", &kib) == 1) break;
  }
  std::fclose(file);
  return int64_t{kib} * 1024;
}

// "always [madvise] never": the word in brackets.
std::string chosen_word(const std::string& text) {
  const size_t begin = text.find('[');
  const size_t end = text.find(']');
  return begin == std::string::npos || end == std::string::npos ? "" : text.substr(begin + 1, end - begin - 1);
}

// Whether memory that asks for huge pages gets them.
bool try_huge_pages() {
  constexpr size_t kBytes = size_t{8} << 20;
  const char* const status = "/proc/self/smaps_rollup";
  const int64_t before = kib_field(status, "AnonHugePages");
  try {
    const HugeMemory memory(kBytes, "a trial");
    std::memset(memory.data(), 1, memory.size());
    return kib_field(status, "AnonHugePages") >= before + static_cast<int64_t>(kBytes / 2);
  } catch (const Error&) {
    return false;
  }
}

int64_t container_memory_limit() {
  for (const char* path : {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"}) {
    const long long limit = std::atoll(first_line(path).c_str());
    if (limit > 0 && limit < (1LL << 60)) return limit;  // cgroup v1 writes a huge number for none.
  }
  return 0;
}

}  // namespace

MachineFacts machine_facts(double seconds) {
  MachineFacts facts;
  const CpuUsage usage;
  std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
  facts.cores = core_limits();
  facts.others_share = std::min(1.0, usage.others_seconds() / (seconds * facts.cores.present));
  facts.cpu = cpu_name();
  utsname system{};
  if (::uname(&system) == 0) facts.system = fmt::format("{} {} {}", system.sysname, system.release, system.machine);
  facts.usable_cores = usable_cores();
  facts.memory_bytes = kib_field("/proc/meminfo", "MemTotal");
  facts.available_bytes = kib_field("/proc/meminfo", "MemAvailable");
  if (facts.memory_bytes == 0) facts.memory_bytes = int64_t{::sysconf(_SC_PHYS_PAGES)} * ::sysconf(_SC_PAGESIZE);
  facts.memory_limit_bytes = container_memory_limit();
  facts.isas = supported_isas();
  const char* wanted = std::getenv("MOBILELLM_ISA");
  facts.isa_wanted = wanted == nullptr ? "" : wanted;
  facts.huge_pages = chosen_word(first_line("/sys/kernel/mm/transparent_hugepage/enabled"));
  facts.gets_huge_pages = try_huge_pages();
  facts.governor = first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
  return facts;
}

std::vector<std::string> speed_advice(const MachineFacts& facts) {
  std::vector<std::string> advice;
  if (facts.huge_pages == "never") {
    advice.emplace_back(
        "huge pages are off, so reading weights is slower; 'echo madvise > "
        "/sys/kernel/mm/transparent_hugepage/enabled' "
        "as root turns them on");
  } else if (!facts.huge_pages.empty() && !facts.gets_huge_pages) {
    advice.emplace_back("memory is too fragmented for huge pages, so reading weights is slower; a restart helps");
  }
  if (facts.cores.allowed < facts.cores.present) {
    advice.push_back(fmt::format("this process may use {} of {} cores (affinity mask; see 'taskset -p $$')",
                                 facts.cores.allowed, facts.cores.present));
  }
  if (facts.cores.quota > 0 && facts.cores.quota < facts.cores.allowed) {
    advice.push_back(
        fmt::format("the container's quota grants {} of {} cores (cpu.max)", facts.cores.quota, facts.cores.allowed));
  }
  if (!facts.isa_wanted.empty() && facts.isa_wanted != isa_name(facts.isas.back())) {
    advice.push_back(fmt::format("MOBILELLM_ISA={} holds back this processor, which has {}; unset it", facts.isa_wanted,
                                 isa_name(facts.isas.back())));
  }
  if (facts.isa_wanted.empty() && facts.isas.back() == Isa::kAmx) {
    advice.emplace_back(
        "avx512 is chosen although this processor has amx, whose kernels give the same results but have not been "
        "measured yet; MOBILELLM_ISA=amx is likely to read prompts faster");
  }
  if (facts.isas.back() == Isa::kScalar) {
    advice.emplace_back("this build has no vector kernels for this processor, so everything is slow");
  }
  if (facts.governor == "powersave") {
    advice.emplace_back("the clock governor is 'powersave'; 'performance' may be faster");
  }
  constexpr double kBusy = 0.05;
  if (facts.others_share > kBusy) {
    advice.push_back(
        fmt::format("other programs take {:.0f}% of the processor time just now", 100 * facts.others_share));
  }
  constexpr int64_t kLittleMemory = int64_t{1} << 30;
  if (facts.available_bytes > 0 && facts.available_bytes < kLittleMemory) {
    advice.push_back(
        fmt::format("only {} MB of memory are free; a model that does not fit is read from the disk again "
                    "and again",
                    facts.available_bytes / 1000000));
  }
  return advice;
}

}  // namespace mobilellm
