// Sixteen f32 lanes in portable C++: the oracle of the others, and what runs where nothing better exists.
#include <cmath>
#include <cstdint>
#include <cstring>

#include "tensor/float_convert.h"

namespace {

struct Vec16 {
  float v[16];

  static constexpr int kGemmRows = 2;
  static constexpr int kGemmTokens = 2;
  static constexpr int kGemvRows = 2;
  static constexpr int kQueryTile = 2;
  static constexpr int kPositionVectors = 1;
  static constexpr int kProductRows = 2;
  static constexpr int kProductVectors = 1;

  template <typename F>
  static Vec16 make(F f) {
    Vec16 r;
    for (int i = 0; i < 16; ++i) r.v[i] = f(i);
    return r;
  }
  static Vec16 zero() { return set1(0.0F); }
  static Vec16 set1(float x) {
    return make([&](int) { return x; });
  }
  static Vec16 load(const void* p) {
    Vec16 r;
    std::memcpy(r.v, p, sizeof(r.v));
    return r;
  }
  static Vec16 load_partial(const void* p, int n) {
    Vec16 r = zero();
    std::memcpy(r.v, p, static_cast<size_t>(n) * sizeof(float));
    return r;
  }
  static Vec16 load_f16(const void* p) {
    uint16_t h[16];
    std::memcpy(h, p, sizeof(h));
    return make([&](int i) { return mobilellm::fp16_to_float(h[i]); });
  }
  static Vec16 load_bf16(const void* p) {
    uint16_t h[16];
    std::memcpy(h, p, sizeof(h));
    return make([&](int i) { return mobilellm::bf16_to_float(h[i]); });
  }
  static Vec16 load_i8(const void* p) {
    const auto* q = static_cast<const int8_t*>(p);
    return make([&](int i) { return static_cast<float>(q[i]); });
  }
  static void load_nibbles(const void* p, Vec16& low, Vec16& high) {
    const auto* q = static_cast<const uint8_t*>(p);
    low = make([&](int i) { return static_cast<float>(q[i] & 15); });
    high = make([&](int i) { return static_cast<float>(q[i] >> 4); });
  }
  void store(float* p) const { store_partial(p, 16); }
  // Lanes that are whole numbers in [0, 255].
  void store_u8(uint8_t* p) const {
    for (int i = 0; i < 16; ++i) p[i] = static_cast<uint8_t>(v[i]);
  }
  void store_f16(void* p) const {
    uint16_t h[16];
    for (int i = 0; i < 16; ++i) h[i] = mobilellm::float_to_fp16(v[i]);
    std::memcpy(p, h, sizeof(h));
  }
  void store_i8(void* p) const {
    for (int i = 0; i < 16; ++i) static_cast<int8_t*>(p)[i] = static_cast<int8_t>(v[i]);
  }
  void store_partial(float* p, int n) const {
    for (int i = 0; i < n; ++i) p[i] = v[i];
  }

  friend Vec16 operator+(Vec16 a, Vec16 b) {
    return make([&](int i) { return a.v[i] + b.v[i]; });
  }
  friend Vec16 operator-(Vec16 a, Vec16 b) {
    return make([&](int i) { return a.v[i] - b.v[i]; });
  }
  friend Vec16 operator*(Vec16 a, Vec16 b) {
    return make([&](int i) { return a.v[i] * b.v[i]; });
  }
  friend Vec16 operator/(Vec16 a, Vec16 b) {
    return make([&](int i) { return a.v[i] / b.v[i]; });
  }
  static Vec16 fma(Vec16 a, Vec16 b, Vec16 c) {
    return make([&](int i) { return __builtin_fmaf(a.v[i], b.v[i], c.v[i]); });
  }
  // The second operand wins when either is NaN, as on x86.
  static Vec16 max(Vec16 a, Vec16 b) {
    return make([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
  }
  static Vec16 min(Vec16 a, Vec16 b) {
    return make([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; });
  }
  static Vec16 round(Vec16 a) {
    return make([&](int i) { return std::nearbyintf(a.v[i]); });
  }
  static Vec16 exp2_integral(Vec16 n) {
    return make([&](int i) {
      // NaN turns into some finite power here; the caller's polynomial is NaN already and stays so.
      const auto bits = static_cast<uint32_t>((n.v[i] == n.v[i] ? static_cast<int>(n.v[i]) : 0) + 127) << 23;
      float result = 0;
      std::memcpy(&result, &bits, sizeof(result));
      return result;
    });
  }
  static Vec16 zero_if_lt(Vec16 a, Vec16 b, Vec16 x) {
    return make([&](int i) { return a.v[i] < b.v[i] ? 0.0F : x.v[i]; });
  }
  static Vec16 select_range(int first, int last, Vec16 x, Vec16 other) {
    return make([&](int i) { return i >= first && i < last ? x.v[i] : other.v[i]; });
  }

  float reduce_add() const {
    float t[8];
    for (int i = 0; i < 8; ++i) t[i] = v[i] + v[i + 8];
    for (int i = 0; i < 4; ++i) t[i] = t[i] + t[i + 4];
    t[0] = t[0] + t[2];
    t[1] = t[1] + t[3];
    return t[0] + t[1];
  }
  float reduce_max() const {
    float m = v[0];
    for (const float x : v) m = m > x ? m : x;
    return m;
  }
};

inline float fma_scalar(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
inline float half_to_float(uint16_t h) { return mobilellm::fp16_to_float(h); }

}  // namespace
