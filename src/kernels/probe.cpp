// The probe that every processor has, and the list of all.
#include "kernels/probe.h"

#include <cstring>

namespace mobilellm {

std::span<const ComputeProbe> processor_probes();
#if defined(__x86_64__)
uint64_t read_once_x86(const std::byte* data, size_t n_bytes) noexcept;
#endif

namespace {

// Sixteen lanes as the compiler's baseline vectors, multiplication and addition apart.
void run_f32(int64_t n_turns) noexcept {
  constexpr int kChains = 8;
  constexpr int kLanes = 4;
  float sums[kChains][kLanes] = {};
  const float factor = 0.999F;
  for (int64_t turn = 0; turn < n_turns; ++turn) {
    for (auto& chain : sums) {
      for (float& lane : chain) lane = lane * factor + 1.0F;
    }
  }
  float total = 0;
  for (const auto& chain : sums) {
    for (const float lane : chain) total += lane;
  }
  asm volatile("" ::"r"(&total) : "memory");
}

constexpr ComputeProbe kPortable = {"f32", "portable", Isa::kScalar, [] { return true; }, int64_t{8} * 4 * 2, run_f32};

}  // namespace

size_t compute_probes(Isa isa, std::span<const ComputeProbe*, 16> out) {
  size_t n = 0;
  out[n++] = &kPortable;
  for (const ComputeProbe& probe : processor_probes()) {
    if (n < out.size() && probe.isa <= isa && probe.is_supported()) out[n++] = &probe;
  }
  return n;
}

uint64_t read_once(const std::byte* data, size_t n_bytes) noexcept {
#if defined(__x86_64__)
  return read_once_x86(data, n_bytes);
#else
  uint64_t sums[8] = {};
  for (size_t i = 0; i < n_bytes; i += sizeof(sums)) {
    uint64_t words[8];
    std::memcpy(words, data + i, sizeof(words));
    for (int k = 0; k < 8; ++k) sums[k] ^= words[k];
  }
  uint64_t total = 0;
  for (const uint64_t sum : sums) total ^= sum;
  return total;
#endif
}

#if !defined(__x86_64__)
std::span<const ComputeProbe> processor_probes() { return {}; }
#endif

}  // namespace mobilellm
