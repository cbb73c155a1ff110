/// exp for arrays: branch-free, so that compilers turn loops over it into vector code.
#pragma once

#include <bit>
#include <cstdint>

namespace mobilellm {

inline constexpr double kLowestExponent = -708;  // exp of less is not a normal number.

/// exp(x) for x from kLowestExponent to 0, within 2 units in the last place.
constexpr double exp_in_range(double x) {
  constexpr double kLog2E = 1.4426950408889634;
  // ln 2 in two parts (fdlibm): n * kLn2High is exact for |n| < 2^11.
  constexpr double kLn2High = 6.93147180369123816490e-01;
  constexpr double kLn2Low = 1.90821492927058770002e-10;
  // Adding 1.5 * 2^52 rounds to an integer, which then stands in the low bits.
  constexpr double kRound = 6755399441055744.0;
  const double shifted = x * kLog2E + kRound;
  const double n = shifted - kRound;
  const double r = (x - n * kLn2High) - n * kLn2Low;
  // Taylor series; |r| <= ln 2 / 2, so the first term left out is below 1e-17.
  double p = 1.0 / 6227020800.0;
  p = p * r + 1.0 / 479001600.0;
  p = p * r + 1.0 / 39916800.0;
  p = p * r + 1.0 / 3628800.0;
  p = p * r + 1.0 / 362880.0;
  p = p * r + 1.0 / 40320.0;
  p = p * r + 1.0 / 5040.0;
  p = p * r + 1.0 / 720.0;
  p = p * r + 1.0 / 120.0;
  p = p * r + 1.0 / 24.0;
  p = p * r + 1.0 / 6.0;
  p = p * r + 0.5;
  p = p * r + 1.0;
  p = p * r + 1.0;
  // The low bits of `shifted`, moved up, add n to the exponent.
  return std::bit_cast<double>(std::bit_cast<uint64_t>(p) + (std::bit_cast<uint64_t>(shifted) << 52));
}

/// exp(x) for x <= 0, -infinity included; 0 below kLowestExponent. The branch keeps loops from being vectorized, so
/// where all values are in range, exp_in_range() is the better choice.
/// Both use additions and multiplications alone, so results are the same on every machine.
constexpr double exp_nonpositive(double x) { return x < kLowestExponent ? 0.0 : exp_in_range(x); }

}  // namespace mobilellm
