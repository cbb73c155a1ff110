/// Counter-based random numbers: the value depends on (seed, stream, counter) alone, so it is the same in any order of
/// evaluation.
#pragma once

#include <cstdint>

namespace mobilellm {

/// 64 well-mixed bits of (seed, stream, counter): Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1,
/// 2, 3", SC 2011).
uint64_t random_bits(uint64_t seed, uint64_t stream, uint64_t counter) noexcept;

/// Uniform in [0, 1) with 53 bits.
double random_uniform(uint64_t seed, uint64_t stream, uint64_t counter) noexcept;

}  // namespace mobilellm
