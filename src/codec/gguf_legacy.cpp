// GGUF's first block types: 32 values that share one scale d (fp16), Qx_1 also a minimum m (fp16).
//
// The low 4 bits of value i lie in byte i % 16 of qs: values 0..15 in the low nibbles, 16..31 in the high ones. The
// fifth bit of value i is bit i of the 32-bit word qh.
//   Q4_0: d qs[16]          (q - 8) * d        Q4_1: d m qs[16]          q * d + m
//   Q5_0: d qh[4] qs[16]    (q - 16) * d       Q5_1: d m qh[4] qs[16]    q * d + m
//   Q8_0: d qs[32]          q * d, q signed
//
// Without importances the encoders round as ggml's reference does, to the same bytes; with them the scale and minimum
// are fitted.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "codec/affine_fit.h"
#include "codec/block_search.h"
#include "codec/families.h"
#include "tensor/float_convert.h"

namespace mobilellm {
namespace {

constexpr int kHalf = 16;

void unpack_nibbles(const uint8_t* qs, uint8_t* values) {
  for (int i = 0; i < kHalf; ++i) {
    values[i] = qs[i] & 15U;
    values[i + kHalf] = static_cast<uint8_t>(qs[i] >> 4);
  }
}

// Adds 16 to every value whose bit in qh is set.
void add_fifth_bits(const uint8_t* qh, uint8_t* values) {
  constexpr uint64_t kSpread = 0x8040201008040201U;  // Byte k keeps bit k.
  for (int i = 0; i < 4; ++i) {
    // Eight copies of the byte, of which byte k keeps bit k; +0x7f.. carries any set bit to bit 7.
    const uint64_t copies = qh[i] * uint64_t{0x0101010101010101U} & kSpread;
    const uint64_t top = ((copies | (copies + 0x7F7F7F7F7F7F7F7FU)) >> 3) & 0x1010101010101010U;
    uint64_t word = load_le<uint64_t>(values + 8 * i) | top;
    std::memcpy(values + 8 * i, &word, sizeof(word));
  }
}

void scale_centered(const uint8_t* values, int center, float d, float* out) {
  for (int i = 0; i < 2 * kHalf; ++i) out[i] = static_cast<float>(values[i] - center) * d;
}

void scale_and_add(const uint8_t* values, float d, float m, float* out) {
  for (int i = 0; i < 2 * kHalf; ++i) out[i] = static_cast<float>(values[i]) * d + m;
}

float load_fp16(const uint8_t* source) { return fp16_to_float(load_le<uint16_t>(source)); }

void store_fp16(float value, uint8_t* out) {
  const uint16_t bits = float_to_fp16(value);
  std::memcpy(out, &bits, sizeof(bits));
}

// The inverse of unpack_nibbles(); only the low four bits of each value count.
void pack_nibbles(const uint8_t* values, uint8_t* qs) {
  for (int i = 0; i < kHalf; ++i) qs[i] = static_cast<uint8_t>((values[i] & 15U) | (values[i + kHalf] << 4));
}

void pack_fifth_bits(const uint8_t* values, uint8_t* qh) {
  uint32_t word = 0;
  for (int i = 0; i < 2 * kHalf; ++i) word |= static_cast<uint32_t>((values[i] >> 4) & 1U) << i;
  std::memcpy(qh, &word, sizeof(word));
}

struct Range {
  float min;
  float max;
};

// In lanes, so that the compiler makes vectors of it.
Range find_range(const float* x) {
  float low[kHalf];
  float high[kHalf];
  for (int k = 0; k < kHalf; ++k) {
    low[k] = x[k + kHalf] < x[k] ? x[k + kHalf] : x[k];
    high[k] = x[k + kHalf] > x[k] ? x[k + kHalf] : x[k];
  }
  for (int step = kHalf / 2; step > 0; step /= 2) {
    for (int k = 0; k < step; ++k) {
      low[k] = low[k + step] < low[k] ? low[k + step] : low[k];
      high[k] = high[k + step] > high[k] ? high[k + step] : high[k];
    }
  }
  return {low[0], high[0]};
}

// find_extreme() by way of the range: only a tie needs to look at the order.
float extreme_of(const float* x, Range range) {
  if (-range.min > range.max) return range.min;
  if (range.max > -range.min) return range.max;
  return find_extreme(x, 2 * kHalf);
}

// 1 / d, and 0 for what is too small to divide by.
float invert(float d) { return std::fabs(d) < std::numeric_limits<float>::min() ? 0.0F : 1.0F / d; }

// q + levels in [0, 2 levels - 1] of x ~ d * q, the extreme value at q = -levels. Returns d.
float round_symmetric(const float* x, int levels, uint8_t* values) {
  const float d = extreme_of(x, find_range(x)) / static_cast<float>(-levels);
  const float inverse = invert(d);
  const int top = 2 * levels - 1;
  for (int i = 0; i < 2 * kHalf; ++i) {
    const int value = static_cast<int>(x[i] * inverse + (static_cast<float>(levels) + 0.5F));
    values[i] = static_cast<uint8_t>(value < top ? value : top);
  }
  return d;
}

// q in [0, top] of x ~ d * q + m; m is the minimum, the sign of a zero that of the first one.
AffineGrid round_with_minimum(const float* x, int top, uint8_t* values) {
  Range range = find_range(x);
  if (range.min == 0.0F) range.min = *std::min_element(x, x + 2 * kHalf);
  const float d = (range.max - range.min) / static_cast<float>(top);
  const float inverse = invert(d);
  for (int i = 0; i < 2 * kHalf; ++i) {
    const float raised = (x[i] - range.min) * inverse + 0.5F;
    const int value = static_cast<int>(raised);
    values[i] = static_cast<uint8_t>(value < top ? value : top);
  }
  return {d, range.min};
}

// As the two functions above, for the least weighted error.
float fit_symmetric_values(const float* x, const float* importance, int levels, uint8_t* values) {
  float weights[2 * kHalf];
  make_fit_weights(importance, 2 * kHalf, weights);
  const float d = fit_scale(x, weights, 2 * kHalf, levels, DType::kF16).scale;
  const float inverse = invert(d);
  for (int i = 0; i < 2 * kHalf; ++i) {
    values[i] = static_cast<uint8_t>(nearest_within(x[i] * inverse, -levels, levels - 1) + levels);
  }
  return d;
}

AffineGrid fit_values_with_minimum(const float* x, const float* importance, int top, uint8_t* values) {
  float weights[2 * kHalf];
  make_fit_weights(importance, 2 * kHalf, weights);
  const AffineGrid grid = fit_affine(x, weights, 2 * kHalf, top, DType::kF16, nullptr);
  const float inverse = invert(grid.scale);
  for (int i = 0; i < 2 * kHalf; ++i) {
    values[i] = static_cast<uint8_t>(nearest_within((x[i] - grid.bias) * inverse, 0, top));
  }
  return grid;
}

// Codes of a block, then d (and m) before them.
void encode_symmetric(const float* x, const float* importance, int levels, uint8_t* values, uint8_t* block) {
  store_fp16(
      importance == nullptr ? round_symmetric(x, levels, values) : fit_symmetric_values(x, importance, levels, values),
      block);
}

void encode_with_minimum(const float* x, const float* importance, int top, uint8_t* values, uint8_t* block) {
  const AffineGrid grid =
      importance == nullptr ? round_with_minimum(x, top, values) : fit_values_with_minimum(x, importance, top, values);
  store_fp16(grid.scale, block);
  store_fp16(grid.bias, block + 2);
}

struct Q4_0 {
  static constexpr const char* kName = "q4_0";
  static constexpr int64_t kValues = 32;
  static constexpr int64_t kBytes = 18;
  static constexpr float kMaxMagnitude = kMaxFp16;
  static constexpr IntegerForm kForm = {.bits = 4, .table = kCenteredCodes};
  static void split(const uint8_t* block, const IntegerRow& out) {
    unpack_nibbles(block + 2, out.codes);
    out.scales[0] = load_fp16(block);
  }
  static void decode(const uint8_t* block, float* out) {
    uint8_t values[kValues];
    unpack_nibbles(block + 2, values);
    scale_centered(values, 8, load_fp16(block), out);
  }
  static void encode(const float* x, const float* importance, uint8_t* block) {
    uint8_t values[kValues];
    encode_symmetric(x, importance, 8, values, block);
    pack_nibbles(values, block + 2);
  }
};

struct Q4_1 {
  static constexpr const char* kName = "q4_1";
  static constexpr int64_t kValues = 32;
  static constexpr int64_t kBytes = 20;
  static constexpr float kMaxMagnitude = kMaxFp16;
  static constexpr IntegerForm kForm = {.bits = 4, .has_biases = true, .table = kUnsignedCodes};
  static void split(const uint8_t* block, const IntegerRow& out) {
    unpack_nibbles(block + 4, out.codes);
    out.scales[0] = load_fp16(block);
    out.biases[0] = load_fp16(block + 2);
  }
  static void decode(const uint8_t* block, float* out) {
    uint8_t values[kValues];
    unpack_nibbles(block + 4, values);
    scale_and_add(values, load_fp16(block), load_fp16(block + 2), out);
  }
  static void encode(const float* x, const float* importance, uint8_t* block) {
    uint8_t values[kValues];
    encode_with_minimum(x, importance, 15, values, block);
    pack_nibbles(values, block + 4);
  }
};

struct Q5_0 {
  static constexpr const char* kName = "q5_0";
  static constexpr int64_t kValues = 32;
  static constexpr int64_t kBytes = 22;
  static constexpr float kMaxMagnitude = kMaxFp16;
  static constexpr IntegerForm kForm = {.bits = 5, .zero = 16};
  static void split(const uint8_t* block, const IntegerRow& out) {
    unpack_nibbles(block + 6, out.codes);
    add_fifth_bits(block + 2, out.codes);
    out.scales[0] = load_fp16(block);
  }
  static void decode(const uint8_t* block, float* out) {
    uint8_t values[kValues];
    unpack_nibbles(block + 6, values);
    add_fifth_bits(block + 2, values);
    scale_centered(values, 16, load_fp16(block), out);
  }
  static void encode(const float* x, const float* importance, uint8_t* block) {
    uint8_t values[kValues];
    encode_symmetric(x, importance, 16, values, block);
    pack_fifth_bits(values, block + 2);
    pack_nibbles(values, block + 6);
  }
};

struct Q5_1 {
  static constexpr const char* kName = "q5_1";
  static constexpr int64_t kValues = 32;
  static constexpr int64_t kBytes = 24;
  static constexpr float kMaxMagnitude = kMaxFp16;
  static constexpr IntegerForm kForm = {.bits = 5, .has_biases = true, .zero = 16, .offset = 16};
  static void split(const uint8_t* block, const IntegerRow& out) {
    unpack_nibbles(block + 8, out.codes);
    add_fifth_bits(block + 4, out.codes);
    out.scales[0] = load_fp16(block);
    out.biases[0] = load_fp16(block + 2);
  }
  static void decode(const uint8_t* block, float* out) {
    uint8_t values[kValues];
    unpack_nibbles(block + 8, values);
    add_fifth_bits(block + 4, values);
    scale_and_add(values, load_fp16(block), load_fp16(block + 2), out);
  }
  static void encode(const float* x, const float* importance, uint8_t* block) {
    uint8_t values[kValues];
    encode_with_minimum(x, importance, 31, values, block);
    pack_fifth_bits(values, block + 4);
    pack_nibbles(values, block + 8);
  }
};

struct Q8_0 {
  static constexpr const char* kName = "q8_0";
  static constexpr int64_t kValues = 32;
  static constexpr int64_t kBytes = 34;
  static constexpr float kMaxMagnitude = kMaxFp16;
  static constexpr IntegerForm kForm = {.bits = 8};
  static void split(const uint8_t* block, const IntegerRow& out) {
    std::memcpy(out.codes, block + 2, kValues);
    out.scales[0] = load_fp16(block);
  }
  static void decode(const uint8_t* block, float* out) {
    const float d = load_fp16(block);
    for (int i = 0; i < kValues; ++i) out[i] = static_cast<float>(static_cast<int8_t>(block[2 + i])) * d;
  }
  // Half away from zero, as ggml rounds here. Eight bits gain nothing worth having from a search.
  static void encode(const float* x, const float* /*importance*/, uint8_t* block) {
    const Range range = find_range(x);
    const float d = std::max(std::fabs(range.min), std::fabs(range.max)) / 127.0F;
    const float inverse = invert(d);
    store_fp16(d, block);
    for (int i = 0; i < kValues; ++i) {
      const float scaled = x[i] * inverse;
      const int truncated = static_cast<int>(scaled);
      const float rest = scaled - static_cast<float>(truncated);
      const int value = truncated + static_cast<int>(rest >= 0.5F) - static_cast<int>(rest <= -0.5F);
      block[2 + i] = static_cast<uint8_t>(static_cast<int8_t>(value));
    }
  }
};

const BlockCodec<Q4_0> kQ4_0Codec;
const BlockCodec<Q4_1> kQ4_1Codec;
const BlockCodec<Q5_0> kQ5_0Codec;
const BlockCodec<Q5_1> kQ5_1Codec;
const BlockCodec<Q8_0> kQ8_0Codec;

}  // namespace

std::span<const Codec* const> gguf_legacy_codecs() {
  static constexpr std::array<const Codec*, 5> kCodecs = {&kQ4_0Codec, &kQ4_1Codec, &kQ5_0Codec, &kQ5_1Codec,
                                                          &kQ8_0Codec};
  return kCodecs;
}

}  // namespace mobilellm
