// Sixteen f32 lanes on NEON as four registers; same operations and bits as vec16_avx512.h.
#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

namespace {

struct Vec16 {
  float32x4_t v[4];

  static constexpr int kGemmRows = 2;
  static constexpr int kGemmTokens = 2;
  static constexpr int kGemvRows = 4;
  static constexpr int kQueryTile = 6;
  static constexpr int kPositionVectors = 1;
  static constexpr int kProductRows = 4;
  static constexpr int kProductVectors = 1;

  static Vec16 zero() { return set1(0.0F); }
  static Vec16 set1(float x) {
    const float32x4_t q = vdupq_n_f32(x);
    return {{q, q, q, q}};
  }
  static Vec16 load(const void* p) {
    const auto* q = static_cast<const float*>(p);
    return {{vld1q_f32(q), vld1q_f32(q + 4), vld1q_f32(q + 8), vld1q_f32(q + 12)}};
  }
  static Vec16 load_partial(const void* p, int n) {
    float buffer[16] = {};
    __builtin_memcpy(buffer, p, static_cast<size_t>(n) * sizeof(float));
    return load(buffer);
  }
  static Vec16 load_f16(const void* p) {
    const auto* q = static_cast<const uint16_t*>(p);
    return each([&](int i) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(q + 4 * i))); });
  }
  static Vec16 load_bf16(const void* p) {
    const auto* q = static_cast<const uint16_t*>(p);
    return each([&](int i) { return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(q + 4 * i), 16)); });
  }
  static Vec16 load_i8(const void* p) {
    const int8x16_t bytes = vld1q_s8(static_cast<const int8_t*>(p));
    const int16x8_t low = vmovl_s8(vget_low_s8(bytes));
    const int16x8_t high = vmovl_high_s8(bytes);
    return {{vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))), vcvtq_f32_s32(vmovl_high_s16(low)),
             vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))), vcvtq_f32_s32(vmovl_high_s16(high))}};
  }
  static void load_nibbles(const void* p, Vec16& low, Vec16& high) {
    const uint8x16_t bytes = vld1q_u8(static_cast<const uint8_t*>(p));
    low = widen_u8(vandq_u8(bytes, vdupq_n_u8(15)));
    high = widen_u8(vshrq_n_u8(bytes, 4));
  }
  void store(float* p) const {
    for (int i = 0; i < 4; ++i) vst1q_f32(p + 4 * i, v[i]);
  }
  // Rounds to nearest even.
  void store_f16(void* p) const {
    auto* q = static_cast<uint16_t*>(p);
    for (int i = 0; i < 4; ++i) vst1_u16(q + 4 * i, vreinterpret_u16_f16(vcvt_f16_f32(v[i])));
  }
  // Integral numbers in [-128, 127].
  void store_i8(void* p) const {
    vst1q_s8(static_cast<int8_t*>(p), vcombine_s8(vmovn_s16(words(0)), vmovn_s16(words(2))));
  }
  // Lanes that are whole numbers in [0, 255].
  void store_u8(uint8_t* p) const { vst1q_u8(p, vcombine_u8(vqmovun_s16(words(0)), vqmovun_s16(words(2)))); }
  void store_partial(float* p, int n) const {
    float buffer[16];
    store(buffer);
    __builtin_memcpy(p, buffer, static_cast<size_t>(n) * sizeof(float));
  }

  friend Vec16 operator+(Vec16 a, Vec16 b) {
    return each([&](int i) { return vaddq_f32(a.v[i], b.v[i]); });
  }
  friend Vec16 operator-(Vec16 a, Vec16 b) {
    return each([&](int i) { return vsubq_f32(a.v[i], b.v[i]); });
  }
  friend Vec16 operator*(Vec16 a, Vec16 b) {
    return each([&](int i) { return vmulq_f32(a.v[i], b.v[i]); });
  }
  friend Vec16 operator/(Vec16 a, Vec16 b) {
    return each([&](int i) { return vdivq_f32(a.v[i], b.v[i]); });
  }
  static Vec16 fma(Vec16 a, Vec16 b, Vec16 c) {
    return each([&](int i) { return vfmaq_f32(c.v[i], a.v[i], b.v[i]); });
  }
  // The second operand wins when either is NaN, as on x86; NEON's own maximum would return the NaN.
  static Vec16 max(Vec16 a, Vec16 b) {
    return each([&](int i) { return max4(a.v[i], b.v[i]); });
  }
  static Vec16 min(Vec16 a, Vec16 b) {
    return each([&](int i) { return vbslq_f32(vcltq_f32(a.v[i], b.v[i]), a.v[i], b.v[i]); });
  }
  static Vec16 round(Vec16 a) {
    return each([&](int i) { return vrndnq_f32(a.v[i]); });
  }
  // 2^n for integral n in [-126, 127].
  static Vec16 exp2_integral(Vec16 n) {
    return each([&](int i) {
      return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vcvtq_s32_f32(n.v[i]), vdupq_n_s32(127)), 23));
    });
  }
  // 0 where a < b, else x (a NaN keeps x).
  static Vec16 zero_if_lt(Vec16 a, Vec16 b, Vec16 x) {
    return each([&](int i) {
      return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(x.v[i]), vcltq_f32(a.v[i], b.v[i])));
    });
  }
  // x in lanes [first, last), else `other`.
  static Vec16 select_range(int first, int last, Vec16 x, Vec16 other) {
    static constexpr int32_t kLane[4] = {0, 1, 2, 3};
    return each([&](int i) {
      const int32x4_t lane = vaddq_s32(vld1q_s32(kLane), vdupq_n_s32(4 * i));
      const uint32x4_t is_inside = vandq_u32(vcgeq_s32(lane, vdupq_n_s32(first)), vcltq_s32(lane, vdupq_n_s32(last)));
      return vbslq_f32(is_inside, x.v[i], other.v[i]);
    });
  }

  // Pairs eight apart, then four, two, one: the same tree on every instruction set.
  float reduce_add() const {
    const float32x4_t t4 = vaddq_f32(vaddq_f32(v[0], v[2]), vaddq_f32(v[1], v[3]));
    const float32x2_t t2 = vadd_f32(vget_low_f32(t4), vget_high_f32(t4));
    return vget_lane_f32(t2, 0) + vget_lane_f32(t2, 1);
  }
  float reduce_max() const {
    float lane[4];
    vst1q_f32(lane, max4(max4(v[0], v[2]), max4(v[1], v[3])));
    const float even = lane[0] > lane[2] ? lane[0] : lane[2];
    const float odd = lane[1] > lane[3] ? lane[1] : lane[3];
    return even > odd ? even : odd;
  }

 private:
  template <typename F>
  static Vec16 each(F f) {
    return {{f(0), f(1), f(2), f(3)}};
  }
  static float32x4_t max4(float32x4_t a, float32x4_t b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
  static Vec16 widen_u8(uint8x16_t bytes) {
    const uint16x8_t low = vmovl_u8(vget_low_u8(bytes));
    const uint16x8_t high = vmovl_high_u8(bytes);
    return {{vcvtq_f32_u32(vmovl_u16(vget_low_u16(low))), vcvtq_f32_u32(vmovl_high_u16(low)),
             vcvtq_f32_u32(vmovl_u16(vget_low_u16(high))), vcvtq_f32_u32(vmovl_high_u16(high))}};
  }
  // Registers i and i + 1 as 16-bit integers.
  int16x8_t words(int i) const {
    return vcombine_s16(vmovn_s32(vcvtq_s32_f32(v[i])), vmovn_s32(vcvtq_s32_f32(v[i + 1])));
  }
};

inline float fma_scalar(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
inline float half_to_float(uint16_t h) { return vgetq_lane_f32(vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(h))), 0); }

}  // namespace
