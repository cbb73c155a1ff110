// Products of pairs of 16-bit integers with AVX2 (and AVX-VNNI where the file is compiled for it), as two registers of
// 8 lanes.
#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace {

struct Pairs {
  __m256i lo;
  __m256i hi;
  static Pairs load(const std::byte* p) {
    const auto* q = reinterpret_cast<const __m256i*>(p);
    return {_mm256_loadu_si256(q), _mm256_loadu_si256(q + 1)};
  }
  static Pairs set1(const std::byte* p) {
    int32_t pair = 0;
    std::memcpy(&pair, p, sizeof(pair));
    const __m256i v = _mm256_set1_epi32(pair);
    return {v, v};
  }
};

struct PairSums {
  __m256i lo;
  __m256i hi;
  void clear() { lo = hi = _mm256_setzero_si256(); }
  void add(Pairs a, Pairs b) {
#if defined(__AVXVNNI__)
    lo = _mm256_dpwssd_avx_epi32(lo, a.lo, b.lo);
    hi = _mm256_dpwssd_avx_epi32(hi, a.hi, b.hi);
#else
    lo = _mm256_add_epi32(lo, _mm256_madd_epi16(a.lo, b.lo));
    hi = _mm256_add_epi32(hi, _mm256_madd_epi16(a.hi, b.hi));
#endif
  }
  Vec16 floats() const { return {_mm256_cvtepi32_ps(lo), _mm256_cvtepi32_ps(hi)}; }
};

inline void store_i16(Vec16 x, std::byte* p) {
  // Packing works within halves, so the quarters come out as 0 2 1 3.
  const __m256i words = _mm256_packs_epi32(_mm256_cvtps_epi32(x.lo), _mm256_cvtps_epi32(x.hi));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_permute4x64_epi64(words, 0xD8));
}

}  // namespace
