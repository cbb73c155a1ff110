// mobilellm doctor: what this machine and this build offer, what is measured, and what holds them back.
#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/files.h"
#include "base/json.h"
#include "cli/args.h"
#include "cli/build_info.h"
#include "cli/commands/commands.h"
#include "cli/terminal.h"
#include "kernels/kernels.h"
#include "measure/machine_facts.h"
#include "measure/machine_limits.h"

namespace mobilellm::cli {
namespace {

constexpr size_t kBandwidthBytes = size_t{1} << 30;
constexpr double kSeconds = 0.2;  // Of each measurement.

constexpr const char* kKernelNames[] = {
#define MOBILELLM_KERNEL(name, Args) #name,
#include "kernels/kernels.inc"
#undef MOBILELLM_KERNEL
};

struct Measured {
  double bandwidth = 0;
  double bandwidth_one_thread = 0;
  std::vector<ComputePeak> peaks;
};

struct Cache {
  std::string folder;
  std::string model;
  bool has_folder = false;
  bool has_model = false;
};

Cache find_cache() {
  const auto variable = [](const char* name) {
    const char* value = std::getenv(name);
    return std::string(value == nullptr ? "" : value);
  };
  std::string base = variable("XDG_CACHE_HOME");
  if (base.empty()) base = join_path(variable("HOME"), ".cache");
  Cache cache;
  cache.folder = join_path(base, "mobilellm");
  cache.model = join_path(cache.folder, "models/SmolLM2-135M-Instruct.Q4_1.gguf");
  cache.has_folder = directory_exists(cache.folder);
  cache.has_model = file_exists(cache.model);
  return cache;
}

std::string isa_list(const std::vector<Isa>& isas) {
  std::string text;
  for (const Isa isa : isas) text += (text.empty() ? "" : ", ") + std::string(isa_name(isa));
  return text;
}

std::string huge_pages_text(const MachineFacts& facts) {
  if (facts.huge_pages.empty()) return facts.gets_huge_pages ? "available" : "unknown";
  return facts.huge_pages + (facts.gets_huge_pages ? ", obtained in a trial" : ", not obtained in a trial");
}

void line(std::string& out, const char* name, const std::string& value) {
  constexpr size_t kWidth = 80;
  constexpr size_t kIndent = 14;
  out += wrap_text(fmt::format("{:<12}  {}", name, value), kWidth, kIndent) + "\n";
}

std::string to_text(const MachineFacts& facts, Isa isa, const Measured* measured, const Cache& cache,
                    const std::vector<std::string>& advice) {
  std::string out;
  line(out, "version", build_text());
  line(out, "system", facts.system);
  line(out, "processor", facts.cpu.empty() ? "unknown" : facts.cpu);
  std::string cores = fmt::format("{} usable of {}", facts.usable_cores, facts.cores.present);
  if (facts.cores.allowed < facts.cores.present) cores += fmt::format("; affinity mask: {}", facts.cores.allowed);
  if (facts.cores.quota > 0) cores += fmt::format("; container quota: {}", facts.cores.quota);
  line(out, "cores", cores);
  std::string memory = fmt::format("{:.1f} GB", static_cast<double>(facts.memory_bytes) * 1e-9);
  if (facts.available_bytes > 0) {
    memory += fmt::format(", {:.1f} GB free", static_cast<double>(facts.available_bytes) * 1e-9);
  }
  if (facts.memory_limit_bytes > 0) {
    memory += fmt::format(", container limit {:.1f} GB", static_cast<double>(facts.memory_limit_bytes) * 1e-9);
  }
  line(out, "memory", memory);
  line(out, "huge pages", huge_pages_text(facts));
  line(out, "kernel sets",
       fmt::format("{}; chosen: {}{}", isa_list(facts.isas), isa_name(isa),
                   facts.isa_wanted.empty() ? "" : " (MOBILELLM_ISA)"));
  std::string kernels;
  for (const char* name : kKernelNames) kernels += (kernels.empty() ? "" : " ") + std::string(name);
  line(out, "kernels", fmt::format("{}: {}", isa_name(isa), kernels));
  if (measured != nullptr) {
    line(out, "bandwidth",
         fmt::format("{:.1f} GB/s read by {} thread{}, {:.1f} by one, from {} MB", measured->bandwidth * 1e-9,
                     facts.usable_cores, facts.usable_cores == 1 ? "" : "s", measured->bandwidth_one_thread * 1e-9,
                     kBandwidthBytes / 1000000));
    for (const ComputePeak& peak : measured->peaks) {
      const bool is_first = &peak == &measured->peaks.front();
      out += fmt::format("{:<12}  {:.0f} Gop/s {}, {}\n", is_first ? "arithmetic" : "", peak.operations * 1e-9,
                         peak.kind, peak.instruction);
    }
  }
  line(out, "cache", cache.folder + (cache.has_folder ? "" : " (absent)"));
  line(out, "model", cache.has_model ? cache.model : "the default model is absent; ./run fetches it");
  if (advice.empty()) {
    out += "\nNothing is known that would make this machine faster.\n";
  } else {
    out += "\nfaster:\n";
    for (const std::string& sentence : advice) out += wrap_text("- " + sentence, 80, 2) + "\n";
  }
  return out;
}

Json to_json(const MachineFacts& facts, Isa isa, const Measured* measured, const Cache& cache,
             const std::vector<std::string>& advice) {
  Json isas = Json::array();
  for (const Isa supported : facts.isas) isas.push(isa_name(supported));
  Json kernels = Json::object();
  for (const char* name : kKernelNames) kernels.set(name, isa_name(isa));
  Json sentences = Json::array();
  for (const std::string& sentence : advice) sentences.push(sentence);
  Json out = Json::object();
  out.set("version", MOBILELLM_VERSION)
      .set("commit", build_commit())
      .set("compiler", build_compiler())
      .set("system", facts.system)
      .set("cpu", facts.cpu)
      .set("cores", Json::object()
                        .set("present", facts.cores.present)
                        .set("allowed", facts.cores.allowed)
                        .set("quota", facts.cores.quota)
                        .set("usable", facts.usable_cores))
      .set("memory_bytes", facts.memory_bytes)
      .set("available_bytes", facts.available_bytes)
      .set("memory_limit_bytes", facts.memory_limit_bytes)
      .set("huge_pages", facts.huge_pages)
      .set("gets_huge_pages", facts.gets_huge_pages)
      .set("isas", std::move(isas))
      .set("isa", isa_name(isa))
      .set("isa_forced", !facts.isa_wanted.empty())
      .set("kernels", std::move(kernels))
      .set("others_cpu_share", facts.others_share);
  if (measured != nullptr) {
    Json peaks = Json::array();
    for (const ComputePeak& peak : measured->peaks) {
      peaks.push(Json::object()
                     .set("kind", peak.kind)
                     .set("instruction", peak.instruction)
                     .set("gops", peak.operations * 1e-9));
    }
    out.set("bandwidth_gb_per_s", measured->bandwidth * 1e-9)
        .set("bandwidth_one_thread_gb_per_s", measured->bandwidth_one_thread * 1e-9)
        .set("peaks", std::move(peaks));
  }
  return out.set("cache", cache.folder)
      .set("default_model", cache.has_model ? Json(cache.model) : Json())
      .set("advice", std::move(sentences));
}

}  // namespace

int run_doctor(int argc, const char* const* argv) {
  bool is_quick = false;
  bool json = false;
  Args args("doctor", "Tells what this machine and this build offer, and what would make them faster.", "[flags]");
  args.flag("--quick", is_quick, "measure nothing");
  args.flag("--json", json, "print one JSON object");
  args.example("mobilellm doctor");
  args.example("mobilellm doctor --quick --json");
  if (!args.parse(argc, argv)) return 0;

  constexpr double kLookSeconds = 0.3;
  const Isa isa = select_isa();
  const MachineFacts facts = machine_facts(kLookSeconds);
  Measured measured;
  if (!is_quick) {
    measured.bandwidth = measure_read_bandwidth(kBandwidthBytes, facts.usable_cores, kSeconds);
    measured.bandwidth_one_thread = measure_read_bandwidth(kBandwidthBytes / 2, 1, kSeconds);
    measured.peaks = measure_compute_peaks(isa, facts.usable_cores, kSeconds);
  }
  const Measured* shown = is_quick ? nullptr : &measured;
  const Cache cache = find_cache();
  const std::vector<std::string> advice = speed_advice(facts);
  if (json) {
    print(to_json(facts, isa, shown, cache, advice).dump_pretty() + "\n");
  } else {
    print(printable(to_text(facts, isa, shown, cache, advice)));
  }
  return 0;
}

}  // namespace mobilellm::cli
