// Products of 8-bit codes on NEON, as four registers of 4 rows: with usdot (i8mm), with sdot (dotprod) or with widening
// multiplications, whichever the file is compiled for.
//
// Only usdot multiplies unsigned with signed bytes. The others take the activations as u - 128, which is a signed byte,
// and add 128 sum(c) at the end.
#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

#include "kernels/panels.h"

namespace {

using mobilellm::CodeRange;

struct Codes {
  int8x16_t v[4];
  static Codes load(const std::byte* p) {
    const auto* q = reinterpret_cast<const int8_t*>(p);
    return {{vld1q_s8(q), vld1q_s8(q + 16), vld1q_s8(q + 32), vld1q_s8(q + 48)}};
  }
  void store(std::byte* p) const {
    for (int i = 0; i < 4; ++i) vst1q_s8(reinterpret_cast<int8_t*>(p) + 16 * i, v[i]);
  }
  static Codes fill(int8_t value) {
    const int8x16_t filled = vdupq_n_s8(value);
    return {{filled, filled, filled, filled}};
  }
  // The bits of `mask` of each byte after a move by `left` bits (to the right when negative); none crosses bytes.
  Codes bits(int left, uint8_t mask) const {
    const int8x16_t count = vdupq_n_s8(static_cast<int8_t>(left));
    Codes c;
    for (int i = 0; i < 4; ++i) {
      const uint8x16_t moved = vshlq_u8(vreinterpretq_u8_s8(v[i]), count);
      c.v[i] = vreinterpretq_s8_u8(vandq_u8(moved, vdupq_n_u8(mask)));
    }
    return c;
  }
  friend Codes operator|(Codes a, Codes b) {
    return {{vorrq_s8(a.v[0], b.v[0]), vorrq_s8(a.v[1], b.v[1]), vorrq_s8(a.v[2], b.v[2]), vorrq_s8(a.v[3], b.v[3])}};
  }
  friend Codes operator-(Codes a, Codes b) {
    return {{vsubq_s8(a.v[0], b.v[0]), vsubq_s8(a.v[1], b.v[1]), vsubq_s8(a.v[2], b.v[2]), vsubq_s8(a.v[3], b.v[3])}};
  }
};

struct CodeTable {
  int8x16_t v;
  static CodeTable load(const int8_t* table) { return {vld1q_s8(table)}; }
  // Indices below 16.
  Codes look_up(Codes indices) const {
    Codes c;
    for (int i = 0; i < 4; ++i) c.v[i] = vqtbl1q_s8(v, vreinterpretq_u8_s8(indices.v[i]));
    return c;
  }
};

struct CodeSums {
  int32x4_t v[4];
  static CodeSums load(const float* p) {
    return {{vreinterpretq_s32_f32(vld1q_f32(p)), vreinterpretq_s32_f32(vld1q_f32(p + 4)),
             vreinterpretq_s32_f32(vld1q_f32(p + 8)), vreinterpretq_s32_f32(vld1q_f32(p + 12))}};
  }
  void store(float* p) const {
    for (int i = 0; i < 4; ++i) vst1q_f32(p + 4 * i, vreinterpretq_f32_s32(v[i]));
  }
  Vec16 as_floats() const {
    return {{vcvtq_f32_s32(v[0]), vcvtq_f32_s32(v[1]), vcvtq_f32_s32(v[2]), vcvtq_f32_s32(v[3])}};
  }
};

#if defined(__ARM_FEATURE_MATMUL_INT8) || defined(__ARM_FEATURE_DOTPROD)

template <CodeRange kRange>
struct CodeDot {
  static constexpr int kTileVectors = 1;
  static constexpr int kTileTokens = 4;
  static constexpr int kSpreadTileTokens = 4;

  int32x4_t v[4];
  void clear() {
    for (int32x4_t& sum : v) sum = vdupq_n_s32(0);
  }
#if defined(__ARM_FEATURE_MATMUL_INT8)
  static constexpr int kShift = 0;
  void add(Codes codes, uint32_t bytes) {
    const uint8x16_t x = vreinterpretq_u8_u32(vdupq_n_u32(bytes));
    for (int i = 0; i < 4; ++i) v[i] = vusdotq_s32(v[i], x, codes.v[i]);
  }
#else
  static constexpr int kShift = 128;
  void add(Codes codes, uint32_t bytes) {
    const int8x16_t x = vreinterpretq_s8_u8(veorq_u8(vreinterpretq_u8_u32(vdupq_n_u32(bytes)), vdupq_n_u8(128)));
    for (int i = 0; i < 4; ++i) v[i] = vdotq_s32(v[i], codes.v[i], x);
  }
#endif
  void add_ones(Codes codes) {
    for (int i = 0; i < 4; ++i) v[i] = vdotq_s32(v[i], codes.v[i], vdupq_n_s8(1));
  }
  void flush() {}
  int32x4_t rows(int i) const { return v[i]; }
#else

// A register of products of 8 bits holds the 4 columns of 2 rows, so a row has two partial sums until the end. Codes
// within +-16 times bytes: 4 products fit in 16 bits (within +-32: 2). Others are widened at once.
template <CodeRange kRange>
struct CodeDot {
  static constexpr int kTileVectors = 1;
  static constexpr int kTileTokens = 2;
  static constexpr int kSpreadTileTokens = 2;
  static constexpr int kShift = 128;

  int32x4_t v[8];
  int16x8_t pairs[8];
  void clear() {
    for (int32x4_t& sum : v) sum = vdupq_n_s32(0);
    for (int16x8_t& sum : pairs) sum = vdupq_n_s16(0);
  }
  void add(Codes codes, uint32_t bytes) {
    add_signed(codes, vreinterpret_s8_u8(veor_u8(vreinterpret_u8_u32(vdup_n_u32(bytes)), vdup_n_u8(128))));
  }
  void add_ones(Codes codes) { add_signed(codes, vdup_n_s8(1)); }
  void add_signed(Codes codes, int8x8_t x) {
    for (int i = 0; i < 4; ++i) {
      if constexpr (kRange != CodeRange::kSignedByte) {
        pairs[2 * i] = vmlal_s8(pairs[2 * i], vget_low_s8(codes.v[i]), x);
        pairs[2 * i + 1] = vmlal_s8(pairs[2 * i + 1], vget_high_s8(codes.v[i]), x);
      } else {
        v[2 * i] = vpadalq_s16(v[2 * i], vmull_s8(vget_low_s8(codes.v[i]), x));
        v[2 * i + 1] = vpadalq_s16(v[2 * i + 1], vmull_s8(vget_high_s8(codes.v[i]), x));
      }
    }
  }
  void flush() {
    if constexpr (kRange != CodeRange::kSignedByte) {
      for (int i = 0; i < 8; ++i) {
        v[i] = vpadalq_s16(v[i], pairs[i]);
        pairs[i] = vdupq_n_s16(0);
      }
    }
  }
  int32x4_t rows(int i) const { return vpaddq_s32(v[2 * i], v[2 * i + 1]); }
#endif

  // After add_ones() alone.
  CodeSums code_sums() const { return {{rows(0), rows(1), rows(2), rows(3)}}; }
  Vec16 value(const CodeSums& sums) const {
    const auto quarter = [&](int i) { return vcvtq_f32_s32(vmlaq_n_s32(rows(i), sums.v[i], kShift)); };
    return {{quarter(0), quarter(1), quarter(2), quarter(3)}};
  }
};

}  // namespace
