/// Loops that only compute or only read: what one core can do at most, to compare kernels with.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/cpu_features.h"

namespace mobilellm {

/// Multiply-adds on registers (or AMX tiles) as dense as the processor takes them.
struct ComputeProbe {
  const char* kind;         ///< Type of the factors: "f32", "bf16" or "int8".
  const char* instruction;  ///< What it is made of: "vfmadd231ps zmm".
  Isa isa;                  ///< The lowest family that may use it.
  bool (*is_supported)();   ///< By this processor and operating system.
  int64_t operations;       ///< Of one turn; a multiplication and an addition are two.
  void (*run)(int64_t n_turns) noexcept;
};

/// Probes of this build that the processor supports and that belong to `isa` or a lower family.
/// At most 16; `out` receives them.
size_t compute_probes(Isa isa, std::span<const ComputeProbe*, 16> out);

/// Reads [data, data + n_bytes) once with the widest loads that the processor has; n_bytes is a multiple of 4096.
/// Returns a sum of what it read, so that nothing is left out.
uint64_t read_once(const std::byte* data, size_t n_bytes) noexcept;

}  // namespace mobilellm
