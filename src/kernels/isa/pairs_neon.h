// Products of pairs of 16-bit integers with NEON, as four registers of 4 lanes.
#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

namespace {

struct Pairs {
  int16x8_t v[4];
  static Pairs load(const std::byte* p) {
    const auto* q = reinterpret_cast<const int16_t*>(p);
    return {{vld1q_s16(q), vld1q_s16(q + 8), vld1q_s16(q + 16), vld1q_s16(q + 24)}};
  }
  static Pairs set1(const std::byte* p) {
    int32_t pair = 0;
    __builtin_memcpy(&pair, p, sizeof(pair));
    const int16x8_t x = vreinterpretq_s16_s32(vdupq_n_s32(pair));
    return {{x, x, x, x}};
  }
};

struct PairSums {
  int32x4_t v[4];
  void clear() {
    for (int32x4_t& x : v) x = vdupq_n_s32(0);
  }
  void add(Pairs a, Pairs b) {
    for (int i = 0; i < 4; ++i) {
      const int32x4_t low = vmull_s16(vget_low_s16(a.v[i]), vget_low_s16(b.v[i]));
      v[i] = vaddq_s32(v[i], vpaddq_s32(low, vmull_high_s16(a.v[i], b.v[i])));
    }
  }
  Vec16 floats() const {
    return {{vcvtq_f32_s32(v[0]), vcvtq_f32_s32(v[1]), vcvtq_f32_s32(v[2]), vcvtq_f32_s32(v[3])}};
  }
};

inline void store_i16(Vec16 x, std::byte* p) {
  auto* q = reinterpret_cast<int16_t*>(p);
  for (int i = 0; i < 4; ++i) vst1_s16(q + 4 * i, vmovn_s32(vcvtq_s32_f32(x.v[i])));
}

}  // namespace
