/// What the machine offers to a model: cores, memory, instruction sets, huge pages; and what holds it back.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/cpu_features.h"
#include "base/topology.h"

namespace mobilellm {

struct MachineFacts {
  std::string cpu, system;  ///< Names; the system is "Linux 6.1.0 x86_64".
  CoreLimits cores;
  int usable_cores = 1;
  int64_t memory_bytes = 0;
  int64_t available_bytes = 0;
  int64_t memory_limit_bytes = 0;  ///< Of the container; 0 = unlimited.
  std::vector<Isa> isas;           ///< Supported, in rising order.
  std::string isa_wanted;          ///< Value of MOBILELLM_ISA, may be empty.
  std::string huge_pages;          ///< "always", "madvise", "never", or "" where the system has no such setting.
  bool gets_huge_pages = false;    ///< A trial allocation lies on them.
  std::string governor;            ///< Of the processor's clock, may be empty.
  double others_share = 0;         ///< Of all cores' time, taken by other programs during the last moment.
};

/// Looks for about `seconds` at what other programs do.
MachineFacts machine_facts(double seconds);

/// One sentence for everything that would make this machine faster; empty when nothing is known.
std::vector<std::string> speed_advice(const MachineFacts& facts);

}  // namespace mobilellm
