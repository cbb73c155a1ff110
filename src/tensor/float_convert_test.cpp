// Every value of the narrow types, and rounding at and around every midpoint between neighbours.
#include "tensor/float_convert.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>

namespace mobilellm {
namespace {

// The value of a binary format with `exponent_bits` and `mantissa_bits`, in plain arithmetic.
double reference_value(uint32_t bits, int exponent_bits, int mantissa_bits, bool has_infinity) {
  const uint32_t mantissa = bits & ((1U << mantissa_bits) - 1);
  const uint32_t top = (1U << exponent_bits) - 1;
  const uint32_t exponent = (bits >> mantissa_bits) & top;
  const double sign = ((bits >> (mantissa_bits + exponent_bits)) & 1U) != 0 ? -1.0 : 1.0;
  const int bias = (1 << (exponent_bits - 1)) - 1;
  if (exponent == top && has_infinity) {
    return mantissa == 0 ? sign * std::numeric_limits<double>::infinity() : std::numeric_limits<double>::quiet_NaN();
  }
  if (exponent == top && mantissa == (1U << mantissa_bits) - 1) return std::numeric_limits<double>::quiet_NaN();
  if (exponent == 0) return sign * std::ldexp(mantissa, 1 - bias - mantissa_bits);
  return sign * std::ldexp(mantissa + (1U << mantissa_bits), static_cast<int>(exponent) - bias - mantissa_bits);
}

void expect_same(float got, double expected, uint32_t bits) {
  if (std::isnan(expected)) {
    EXPECT_TRUE(std::isnan(got)) << bits;
  } else {
    EXPECT_EQ(static_cast<double>(got), expected) << bits;
    EXPECT_EQ(std::signbit(got), std::signbit(expected)) << bits;
  }
}

// Rounds each float at, just below and just above every midpoint of finite neighbours [0, n_finite) of a format.
void check_rounding(uint32_t n_finite, uint32_t sign_bit, const std::function<float(uint32_t)>& decode,
                    const std::function<uint32_t(float)>& encode) {
  for (uint32_t bits = 0; bits + 1 < n_finite; ++bits) {
    const float low = decode(bits);
    const float high = decode(bits + 1);
    const float middle = static_cast<float>((static_cast<double>(low) + static_cast<double>(high)) / 2);
    const uint32_t even = bits % 2 == 0 ? bits : bits + 1;
    ASSERT_EQ(encode(low), bits);
    ASSERT_EQ(encode(-low), bits | sign_bit);
    if (static_cast<double>(middle) * 2 != static_cast<double>(low) + static_cast<double>(high)) continue;
    ASSERT_EQ(encode(middle), even) << bits;
    ASSERT_EQ(encode(-middle), even | sign_bit) << bits;
    ASSERT_EQ(encode(std::nextafter(middle, 0.0F)), bits) << bits;
    ASSERT_EQ(encode(std::nextafter(middle, std::numeric_limits<float>::infinity())), bits + 1) << bits;
  }
}

TEST(FloatConvert, Fp16ReadsEveryValue) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    expect_same(fp16_to_float(static_cast<uint16_t>(bits)), reference_value(bits, 5, 10, true), bits);
  }
}

TEST(FloatConvert, Fp16RoundsToNearestEven) {
  check_rounding(
      0x7C00, 0x8000, [](uint32_t bits) { return fp16_to_float(static_cast<uint16_t>(bits)); }, float_to_fp16);
  EXPECT_EQ(float_to_fp16(65519.99F), 0x7BFF);
  EXPECT_EQ(float_to_fp16(65520.0F), 0x7C00);
  EXPECT_EQ(float_to_fp16(-1e30F), 0xFC00);
  EXPECT_EQ(float_to_fp16(1e-30F), 0);
  EXPECT_TRUE(std::isnan(fp16_to_float(float_to_fp16(std::numeric_limits<float>::quiet_NaN()))));
  // A NaN whose payload lies only in the dropped bits must not become an infinity.
  EXPECT_TRUE(std::isnan(fp16_to_float(float_to_fp16(std::bit_cast<float>(0xFF800001U)))));
}

TEST(FloatConvert, Bf16ReadsAndRoundsEveryValue) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    expect_same(bf16_to_float(static_cast<uint16_t>(bits)), reference_value(bits, 8, 7, true), bits);
  }
  check_rounding(
      0x7F80, 0x8000, [](uint32_t bits) { return bf16_to_float(static_cast<uint16_t>(bits)); }, float_to_bf16);
  EXPECT_EQ(float_to_bf16(std::numeric_limits<float>::max()), 0x7F80);
  EXPECT_EQ(float_to_bf16(std::numeric_limits<float>::infinity()), 0x7F80);
  EXPECT_TRUE(std::isnan(bf16_to_float(float_to_bf16(std::bit_cast<float>(0x7F800001U)))));
}

TEST(FloatConvert, Fp8ReadsEveryValue) {
  for (uint32_t bits = 0; bits < 0x100; ++bits) {
    expect_same(f8_e4m3_to_float(static_cast<uint8_t>(bits)), reference_value(bits, 4, 3, false), bits);
    expect_same(f8_e5m2_to_float(static_cast<uint8_t>(bits)), reference_value(bits, 5, 2, true), bits);
  }
}

TEST(FloatConvert, E4m3RoundsToNearestEvenAndSaturates) {
  check_rounding(
      0x7F, 0x80, [](uint32_t bits) { return f8_e4m3_to_float(static_cast<uint8_t>(bits)); }, float_to_f8_e4m3);
  EXPECT_EQ(float_to_f8_e4m3(448.0F), 0x7E);
  EXPECT_EQ(float_to_f8_e4m3(1e9F), 0x7E);
  EXPECT_EQ(float_to_f8_e4m3(-std::numeric_limits<float>::infinity()), 0xFE);
  EXPECT_TRUE(std::isnan(f8_e4m3_to_float(float_to_f8_e4m3(std::numeric_limits<float>::quiet_NaN()))));
}

TEST(FloatConvert, E5m2RoundsToNearestEven) {
  check_rounding(
      0x7C, 0x80, [](uint32_t bits) { return f8_e5m2_to_float(static_cast<uint8_t>(bits)); }, float_to_f8_e5m2);
  EXPECT_EQ(float_to_f8_e5m2(61439.0F), 0x7B);
  EXPECT_EQ(float_to_f8_e5m2(61440.0F), 0x7C);
  EXPECT_EQ(float_to_f8_e5m2(-1e30F), 0xFC);
  EXPECT_TRUE(std::isnan(f8_e5m2_to_float(float_to_f8_e5m2(std::numeric_limits<float>::quiet_NaN()))));
}

TEST(FloatConvert, ScalesAndFourBitFloats) {
  for (int bits = 0; bits < 255; ++bits) {
    EXPECT_EQ(e8m0_to_float(static_cast<uint8_t>(bits)), std::ldexp(1.0F, bits - 127)) << bits;
  }
  EXPECT_TRUE(std::isnan(e8m0_to_float(255)));
  for (uint32_t code = 0; code < 16; ++code) {
    expect_same(e2m1_to_float(static_cast<uint8_t>(code)),
                code % 8 == 7   ? (code > 7 ? -6.0 : 6.0)
                : code % 8 == 6 ? (code > 7 ? -4.0 : 4.0)
                                : reference_value(code, 2, 1, false),
                code);
  }
}

}  // namespace
}  // namespace mobilellm
