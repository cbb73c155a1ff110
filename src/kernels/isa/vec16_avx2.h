// Sixteen f32 lanes on AVX2 + FMA + F16C as two registers; same operations and bits as vec16_avx512.h.
#include <immintrin.h>

#include <cstdint>

namespace {

struct Vec16 {
  __m256 lo;
  __m256 hi;

  static constexpr int kGemmRows = 2;
  static constexpr int kGemmTokens = 2;
  static constexpr int kGemvRows = 4;
  static constexpr int kQueryTile = 4;
  static constexpr int kPositionVectors = 1;
  static constexpr int kProductRows = 4;
  static constexpr int kProductVectors = 1;

  static Vec16 zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
  static Vec16 set1(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
  static Vec16 load(const void* p) {
    const auto* q = static_cast<const float*>(p);
    return {_mm256_loadu_ps(q), _mm256_loadu_ps(q + 8)};
  }
  static Vec16 load_partial(const void* p, int n) {
    const auto* q = static_cast<const float*>(p);
    return {_mm256_maskload_ps(q, mask(n)), n > 8 ? _mm256_maskload_ps(q + 8, mask(n - 8)) : _mm256_setzero_ps()};
  }
  static Vec16 load_f16(const void* p) {
    const auto* q = static_cast<const __m128i*>(p);
    return {_mm256_cvtph_ps(_mm_loadu_si128(q)), _mm256_cvtph_ps(_mm_loadu_si128(q + 1))};
  }
  static Vec16 load_bf16(const void* p) {
    const auto* q = static_cast<const __m128i*>(p);
    return {widen_bf16(_mm_loadu_si128(q)), widen_bf16(_mm_loadu_si128(q + 1))};
  }
  static Vec16 load_i8(const void* p) {
    const __m128i b = _mm_loadu_si128(static_cast<const __m128i*>(p));
    return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(b)),
            _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(b, 8)))};
  }
  static void load_nibbles(const void* p, Vec16& low, Vec16& high) {
    const __m128i b = _mm_loadu_si128(static_cast<const __m128i*>(p));
    const __m128i m = _mm_set1_epi8(15);
    low = widen_u8(_mm_and_si128(b, m));
    high = widen_u8(_mm_and_si128(_mm_srli_epi16(b, 4), m));
  }
  void store(float* p) const {
    _mm256_storeu_ps(p, lo);
    _mm256_storeu_ps(p + 8, hi);
  }
  void store_f16(void* p) const {
    constexpr int kMode = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    _mm_storeu_si128(static_cast<__m128i*>(p), _mm256_cvtps_ph(lo, kMode));
    _mm_storeu_si128(static_cast<__m128i*>(p) + 1, _mm256_cvtps_ph(hi, kMode));
  }
  void store_i8(void* p) const {
    // Packing works within halves, so the quarters come out as 0 2 1 3.
    const __m256i words = _mm256_packs_epi32(_mm256_cvtps_epi32(lo), _mm256_cvtps_epi32(hi));
    const __m256i ordered = _mm256_permute4x64_epi64(words, 0xD8);
    _mm_storeu_si128(static_cast<__m128i*>(p),
                     _mm_packs_epi16(_mm256_castsi256_si128(ordered), _mm256_extracti128_si256(ordered, 1)));
  }
  // Lanes that are whole numbers in [0, 255].
  void store_u8(uint8_t* p) const {
    const __m256i words = _mm256_permute4x64_epi64(_mm256_packus_epi32(_mm256_cvtps_epi32(lo), _mm256_cvtps_epi32(hi)),
                                                   _MM_SHUFFLE(3, 1, 2, 0));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                     _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
  }
  void store_partial(float* p, int n) const {
    _mm256_maskstore_ps(p, mask(n), lo);
    if (n > 8) _mm256_maskstore_ps(p + 8, mask(n - 8), hi);
  }

  friend Vec16 operator+(Vec16 a, Vec16 b) { return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)}; }
  friend Vec16 operator-(Vec16 a, Vec16 b) { return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)}; }
  friend Vec16 operator*(Vec16 a, Vec16 b) { return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)}; }
  friend Vec16 operator/(Vec16 a, Vec16 b) { return {_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)}; }
  static Vec16 fma(Vec16 a, Vec16 b, Vec16 c) {
    return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
  }
  static Vec16 max(Vec16 a, Vec16 b) { return {_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)}; }
  static Vec16 min(Vec16 a, Vec16 b) { return {_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)}; }
  static Vec16 round(Vec16 a) {
    constexpr int kMode = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    return {_mm256_round_ps(a.lo, kMode), _mm256_round_ps(a.hi, kMode)};
  }
  static Vec16 exp2_integral(Vec16 n) { return {exp2_half(n.lo), exp2_half(n.hi)}; }
  static Vec16 zero_if_lt(Vec16 a, Vec16 b, Vec16 x) {
    return {_mm256_and_ps(_mm256_cmp_ps(a.lo, b.lo, _CMP_NLT_UQ), x.lo),
            _mm256_and_ps(_mm256_cmp_ps(a.hi, b.hi, _CMP_NLT_UQ), x.hi)};
  }
  static Vec16 select_range(int first, int last, Vec16 x, Vec16 other) {
    return {_mm256_blendv_ps(other.lo, x.lo, range(first, last)),
            _mm256_blendv_ps(other.hi, x.hi, range(first - 8, last - 8))};
  }

  float reduce_add() const {
    const __m256 t8 = _mm256_add_ps(lo, hi);
    __m128 t4 = _mm_add_ps(_mm256_castps256_ps128(t8), _mm256_extractf128_ps(t8, 1));
    t4 = _mm_add_ps(t4, _mm_movehl_ps(t4, t4));
    return _mm_cvtss_f32(_mm_add_ss(t4, _mm_shuffle_ps(t4, t4, 1)));
  }
  float reduce_max() const {
    const __m256 t8 = _mm256_max_ps(lo, hi);
    __m128 t4 = _mm_max_ps(_mm256_castps256_ps128(t8), _mm256_extractf128_ps(t8, 1));
    t4 = _mm_max_ps(t4, _mm_movehl_ps(t4, t4));
    return _mm_cvtss_f32(_mm_max_ss(t4, _mm_shuffle_ps(t4, t4, 1)));
  }

 private:
  static __m256i lanes() { return _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7); }
  static __m256i mask(int n) { return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), lanes()); }
  static __m256 range(int first, int last) { return _mm256_castsi256_ps(_mm256_andnot_si256(mask(first), mask(last))); }
  static __m256 widen_bf16(__m128i raw) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(raw), 16));
  }
  static Vec16 widen_u8(__m128i b) {
    return {_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(b)),
            _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128(b, 8)))};
  }
  static __m256 exp2_half(__m256 n) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23));
  }
};

inline float fma_scalar(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
inline float half_to_float(uint16_t h) { return _cvtsh_ss(h); }

}  // namespace
