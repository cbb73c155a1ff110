// Products of 8-bit codes with AVX2 (and AVX-VNNI where the file is compiled for it), as two registers of 8 rows.
#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/panels.h"

namespace {

using mobilellm::CodeRange;

struct Codes {
  __m256i lo;
  __m256i hi;
  static Codes load(const std::byte* p) {
    const auto* q = reinterpret_cast<const __m256i*>(p);
    return {_mm256_loadu_si256(q), _mm256_loadu_si256(q + 1)};
  }
  void store(std::byte* p) const {
    auto* q = reinterpret_cast<__m256i*>(p);
    _mm256_storeu_si256(q, lo);
    _mm256_storeu_si256(q + 1, hi);
  }
  static Codes fill(int8_t value) { return {_mm256_set1_epi8(value), _mm256_set1_epi8(value)}; }
  // The bits of `mask` of each byte after a move by `left` bits (to the right when negative); none crosses bytes.
  Codes bits(int left, uint8_t mask) const {
    const __m256i m = _mm256_set1_epi8(static_cast<char>(mask));
    if (left >= 0)
      return {_mm256_and_si256(_mm256_slli_epi16(lo, left), m), _mm256_and_si256(_mm256_slli_epi16(hi, left), m)};
    return {_mm256_and_si256(_mm256_srli_epi16(lo, -left), m), _mm256_and_si256(_mm256_srli_epi16(hi, -left), m)};
  }
  friend Codes operator|(Codes a, Codes b) { return {_mm256_or_si256(a.lo, b.lo), _mm256_or_si256(a.hi, b.hi)}; }
  friend Codes operator-(Codes a, Codes b) { return {_mm256_sub_epi8(a.lo, b.lo), _mm256_sub_epi8(a.hi, b.hi)}; }
};

struct CodeTable {
  __m256i v;
  static CodeTable load(const int8_t* table) {
    return {_mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)))};
  }
  // Indices below 16.
  Codes look_up(Codes indices) const {
    return {_mm256_shuffle_epi8(v, indices.lo), _mm256_shuffle_epi8(v, indices.hi)};
  }
};

struct CodeSums {
  __m256i lo;
  __m256i hi;
  static CodeSums load(const float* p) {
    const auto* q = reinterpret_cast<const __m256i*>(p);
    return {_mm256_loadu_si256(q), _mm256_loadu_si256(q + 1)};
  }
  void store(float* p) const {
    auto* q = reinterpret_cast<__m256i*>(p);
    _mm256_storeu_si256(q, lo);
    _mm256_storeu_si256(q + 1, hi);
  }
  Vec16 as_floats() const { return {_mm256_cvtepi32_ps(lo), _mm256_cvtepi32_ps(hi)}; }
};

#if defined(__AVXVNNI__)

template <CodeRange kRange>
struct CodeDot {
  static constexpr int kTileVectors = 1;
  static constexpr int kTileTokens = 4;
  static constexpr int kSpreadTileTokens = 4;

  __m256i lo;
  __m256i hi;
  void clear() { lo = hi = _mm256_setzero_si256(); }
  void add(Codes codes, uint32_t bytes) {
    const __m256i x = _mm256_set1_epi32(static_cast<int>(bytes));
    lo = _mm256_dpbusd_avx_epi32(lo, x, codes.lo);
    hi = _mm256_dpbusd_avx_epi32(hi, x, codes.hi);
  }
  void flush() {}
#else

// Codes within +-16 times bytes: a pair's sum is at most 8,160 and the sum of four pairs fits in 16 bits (within +-32,
// of two). Other codes are widened, since the instruction for bytes saturates.
template <CodeRange kRange>
struct CodeDot {
  static constexpr int kTileVectors = 1;
  static constexpr int kTileTokens = 2;
  static constexpr int kSpreadTileTokens = 2;

  __m256i lo;
  __m256i hi;
  __m256i pairs_lo;
  __m256i pairs_hi;
  void clear() { lo = hi = pairs_lo = pairs_hi = _mm256_setzero_si256(); }
  void add(Codes codes, uint32_t bytes) {
    const __m256i x = _mm256_set1_epi32(static_cast<int>(bytes));
    if constexpr (kRange != CodeRange::kSignedByte) {
      pairs_lo = _mm256_add_epi16(pairs_lo, _mm256_maddubs_epi16(x, codes.lo));
      pairs_hi = _mm256_add_epi16(pairs_hi, _mm256_maddubs_epi16(x, codes.hi));
    } else {
      // Even and odd columns apart: each product of a row's two even (odd) columns is a pair of 16-bit numbers.
      const __m256i even_x = _mm256_and_si256(x, _mm256_set1_epi16(255));
      const __m256i odd_x = _mm256_srli_epi16(x, 8);
      lo = _mm256_add_epi32(lo, _mm256_add_epi32(_mm256_madd_epi16(even_x, even(codes.lo)),
                                                 _mm256_madd_epi16(odd_x, _mm256_srai_epi16(codes.lo, 8))));
      hi = _mm256_add_epi32(hi, _mm256_add_epi32(_mm256_madd_epi16(even_x, even(codes.hi)),
                                                 _mm256_madd_epi16(odd_x, _mm256_srai_epi16(codes.hi, 8))));
    }
  }
  void flush() {
    if constexpr (kRange != CodeRange::kSignedByte) {
      const __m256i one = _mm256_set1_epi16(1);
      lo = _mm256_add_epi32(lo, _mm256_madd_epi16(pairs_lo, one));
      hi = _mm256_add_epi32(hi, _mm256_madd_epi16(pairs_hi, one));
      pairs_lo = pairs_hi = _mm256_setzero_si256();
    }
  }
  static __m256i even(__m256i codes) { return _mm256_srai_epi16(_mm256_slli_epi16(codes, 8), 8); }
#endif

  void add_ones(Codes codes) { add(codes, 0x01010101U); }
  CodeSums code_sums() const { return {lo, hi}; }
  Vec16 value(CodeSums /*sums*/) const { return {_mm256_cvtepi32_ps(lo), _mm256_cvtepi32_ps(hi)}; }
};

}  // namespace
