// Sixteen f32 lanes on AVX-512. Every vec16 header offers the same operations with the same results, bit for bit.
#include <immintrin.h>

#include <cstdint>

namespace {

struct Vec16 {
  __m512 v;

  // Tile sizes that fill the register file: accumulators + one operand column + one broadcast.
  static constexpr int kGemmRows = 4;
  static constexpr int kGemmTokens = 6;
  static constexpr int kGemvRows = 8;
  static constexpr int kQueryTile = 6;
  static constexpr int kPositionVectors = 4;
  static constexpr int kProductRows = 8;
  static constexpr int kProductVectors = 3;

  static Vec16 zero() { return {_mm512_setzero_ps()}; }
  static Vec16 set1(float x) { return {_mm512_set1_ps(x)}; }
  static Vec16 load(const void* p) { return {_mm512_loadu_ps(p)}; }
  static Vec16 load_partial(const void* p, int n) { return {_mm512_maskz_loadu_ps(mask(n), p)}; }
  static Vec16 load_f16(const void* p) { return {_mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(p)))}; }
  static Vec16 load_bf16(const void* p) {
    const __m256i raw = _mm256_loadu_si256(static_cast<const __m256i*>(p));
    return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(raw), 16))};
  }
  static Vec16 load_i8(const void* p) {
    return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p))))};
  }
  static void load_nibbles(const void* p, Vec16& low, Vec16& high) {
    const __m512i bytes = _mm512_cvtepu8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p)));
    low.v = _mm512_cvtepi32_ps(_mm512_and_si512(bytes, _mm512_set1_epi32(15)));
    high.v = _mm512_cvtepi32_ps(_mm512_srli_epi32(bytes, 4));
  }
  void store(float* p) const { _mm512_storeu_ps(p, v); }
  // Lanes that are whole numbers in [0, 255].
  void store_u8(uint8_t* p) const {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtusepi32_epi8(_mm512_cvtps_epi32(v)));
  }
  // Rounds to nearest even.
  void store_f16(void* p) const {
    _mm256_storeu_si256(static_cast<__m256i*>(p), _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
  // Integral numbers in [-128, 127].
  void store_i8(void* p) const {
    _mm_storeu_si128(static_cast<__m128i*>(p), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v)));
  }
  void store_partial(float* p, int n) const { _mm512_mask_storeu_ps(p, mask(n), v); }

  friend Vec16 operator+(Vec16 a, Vec16 b) { return {_mm512_add_ps(a.v, b.v)}; }
  friend Vec16 operator-(Vec16 a, Vec16 b) { return {_mm512_sub_ps(a.v, b.v)}; }
  friend Vec16 operator*(Vec16 a, Vec16 b) { return {_mm512_mul_ps(a.v, b.v)}; }
  friend Vec16 operator/(Vec16 a, Vec16 b) { return {_mm512_div_ps(a.v, b.v)}; }
  static Vec16 fma(Vec16 a, Vec16 b, Vec16 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
  static Vec16 max(Vec16 a, Vec16 b) { return {_mm512_max_ps(a.v, b.v)}; }
  static Vec16 min(Vec16 a, Vec16 b) { return {_mm512_min_ps(a.v, b.v)}; }
  static Vec16 round(Vec16 a) { return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
  // 2^n for integral n in [-126, 127].
  static Vec16 exp2_integral(Vec16 n) {
    const __m512i i = _mm512_add_epi32(_mm512_cvtps_epi32(n.v), _mm512_set1_epi32(127));
    return {_mm512_castsi512_ps(_mm512_slli_epi32(i, 23))};
  }
  // 0 where a < b, else x (a NaN keeps x).
  static Vec16 zero_if_lt(Vec16 a, Vec16 b, Vec16 x) {
    return {_mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a.v, b.v, _CMP_NLT_UQ), x.v)};
  }
  // x in lanes [first, last), else `other`.
  static Vec16 select_range(int first, int last, Vec16 x, Vec16 other) {
    const auto m = static_cast<__mmask16>(mask(last) & static_cast<__mmask16>(~mask(first)));
    return {_mm512_mask_mov_ps(other.v, m, x.v)};
  }

  // Pairs eight apart, then four, two, one: the same tree on every instruction set.
  float reduce_add() const {
    __m256 t8 = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    __m128 t4 = _mm_add_ps(_mm256_castps256_ps128(t8), _mm256_extractf128_ps(t8, 1));
    t4 = _mm_add_ps(t4, _mm_movehl_ps(t4, t4));
    return _mm_cvtss_f32(_mm_add_ss(t4, _mm_shuffle_ps(t4, t4, 1)));
  }
  float reduce_max() const {
    __m256 t8 = _mm256_max_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    __m128 t4 = _mm_max_ps(_mm256_castps256_ps128(t8), _mm256_extractf128_ps(t8, 1));
    t4 = _mm_max_ps(t4, _mm_movehl_ps(t4, t4));
    return _mm_cvtss_f32(_mm_max_ss(t4, _mm_shuffle_ps(t4, t4, 1)));
  }

 private:
  static __mmask16 mask(int n) { return static_cast<__mmask16>((1U << n) - 1U); }
};

inline float fma_scalar(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
inline float half_to_float(uint16_t h) { return _cvtsh_ss(h); }

}  // namespace
