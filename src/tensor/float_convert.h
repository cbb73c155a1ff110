/// Scalar conversions between float and the narrow number types, rounding to nearest even.
#pragma once

#include <bit>
#include <cstdint>

namespace mobilellm {

/// Exact.
constexpr float bf16_to_float(uint16_t bits) { return std::bit_cast<float>(uint32_t{bits} << 16); }

/// NaN stays a quiet NaN with its sign.
constexpr uint16_t float_to_bf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7FFFFFFFU) > 0x7F800000U) return static_cast<uint16_t>((bits >> 16) | 0x40U);
  return static_cast<uint16_t>((bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16);
}

/// Exact, for subnormals, infinities and NaN too. Without branches and with signed comparisons only, so that loops over
/// it vectorise on every processor.
constexpr float fp16_to_float(uint16_t bits) {
  const int32_t sign = static_cast<int32_t>((uint32_t{bits} & 0x8000U) << 16);
  const int32_t shifted = (int32_t{bits} & 0x7FFF) << 13;
  // Normal numbers: move the exponent bias from 15 to 127; infinities and NaN: to the top exponent.
  const int32_t is_special = -static_cast<int32_t>(shifted >= 0x0F800000);
  const int32_t normal = shifted + 0x38000000 + (is_special & 0x38000000);
  // Subnormals: 0.5 + mantissa * 2^-24 is exact, so the subtraction leaves mantissa * 2^-24.
  const float subnormal = std::bit_cast<float>((shifted >> 13) | 0x3F000000) - 0.5F;
  const int32_t is_small = -static_cast<int32_t>(shifted < 0x00800000);
  return std::bit_cast<float>(sign | (normal & ~is_small) | (std::bit_cast<int32_t>(subnormal) & is_small));
}

/// Values from 65520 on become infinity; NaN stays a quiet NaN with its sign.
constexpr uint16_t float_to_fp16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint16_t>((bits >> 16) & 0x8000U);
  const uint32_t magnitude = bits & 0x7FFFFFFFU;
  if (magnitude > 0x7F800000U) return static_cast<uint16_t>(sign | 0x7E00U | ((magnitude >> 13) & 0x3FFU));
  if (magnitude >= 0x47800000U) return static_cast<uint16_t>(sign | 0x7C00U);
  if (magnitude < 0x38800000U) {
    // Below 2^-14: adding 0.5 rounds to multiples of 2^-24, the unit of subnormals.
    const float rounded = std::bit_cast<float>(magnitude) + 0.5F;
    return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(rounded) - 0x3F000000U));
  }
  const uint32_t rounded = magnitude - 0x38000000U + 0xFFFU + ((magnitude >> 13) & 1U);
  return static_cast<uint16_t>(sign | (rounded >> 13));
}

/// OCP E4M3 (bias 7, no infinities, NaN at 0x7f and 0xff). Exact.
constexpr float f8_e4m3_to_float(uint8_t bits) {
  const uint32_t sign = (uint32_t{bits} & 0x80U) << 24;
  const uint32_t magnitude = uint32_t{bits} & 0x7FU;
  if (magnitude == 0x7FU) return std::bit_cast<float>(sign | 0x7FC00000U);
  if (magnitude < 8U) {
    const float value = static_cast<float>(magnitude) * (1.0F / 512.0F);
    return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(value));
  }
  return std::bit_cast<float>(sign | ((magnitude << 20) + (120U << 23)));
}

/// Saturates at +-448 (the format has no infinities); NaN stays NaN.
constexpr uint8_t float_to_f8_e4m3(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint8_t>((bits >> 24) & 0x80U);
  const uint32_t magnitude = bits & 0x7FFFFFFFU;
  if (magnitude > 0x7F800000U) return static_cast<uint8_t>(sign | 0x7FU);
  if (magnitude >= 0x43E00000U) return static_cast<uint8_t>(sign | 0x7EU);
  if (magnitude < 0x3C800000U) {
    // Below 2^-6: adding 2^14 rounds to multiples of 2^-9, the unit of subnormals.
    const float rounded = std::bit_cast<float>(magnitude) + 0x1p14F;
    return static_cast<uint8_t>(sign | (std::bit_cast<uint32_t>(rounded) - std::bit_cast<uint32_t>(0x1p14F)));
  }
  const uint32_t rounded = (magnitude - (120U << 23) + 0x7FFFFU + ((magnitude >> 20) & 1U)) >> 20;
  return static_cast<uint8_t>(sign | rounded);
}

/// E5M2 is the upper half of an fp16. Exact.
constexpr float f8_e5m2_to_float(uint8_t bits) { return fp16_to_float(static_cast<uint16_t>(bits << 8)); }

/// Values from 61440 on become infinity; NaN stays NaN with its sign.
constexpr uint8_t float_to_f8_e5m2(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint8_t>((bits >> 24) & 0x80U);
  const uint32_t magnitude = bits & 0x7FFFFFFFU;
  if (magnitude > 0x7F800000U) return static_cast<uint8_t>(sign | 0x7EU);
  if (magnitude >= 0x47700000U) return static_cast<uint8_t>(sign | 0x7CU);
  if (magnitude < 0x38800000U) {
    // Below 2^-14: adding 2^7 rounds to multiples of 2^-16, the unit of subnormals.
    const float rounded = std::bit_cast<float>(magnitude) + 0x1p7F;
    return static_cast<uint8_t>(sign | (std::bit_cast<uint32_t>(rounded) - std::bit_cast<uint32_t>(0x1p7F)));
  }
  const uint32_t rounded = (magnitude - (112U << 23) + 0xFFFFFU + ((magnitude >> 21) & 1U)) >> 21;
  return static_cast<uint8_t>(sign | rounded);
}

/// Power-of-two scale 2^(bits - 127); 255 is NaN.
constexpr float e8m0_to_float(uint8_t bits) {
  if (bits == 0) return 0x1p-127F;
  if (bits == 255) return std::bit_cast<float>(0x7FC00000U);
  return std::bit_cast<float>(uint32_t{bits} << 23);
}

/// E2M1 code (bit 3 = sign): 0 0.5 1 1.5 2 3 4 6. Uses the low 4 bits. Exact.
constexpr float e2m1_to_float(uint8_t code) {
  constexpr float kMagnitudes[8] = {0.0F, 0.5F, 1.0F, 1.5F, 2.0F, 3.0F, 4.0F, 6.0F};
  const float magnitude = kMagnitudes[code & 7U];
  return (code & 8U) != 0 ? -magnitude : magnitude;
}

}  // namespace mobilellm
