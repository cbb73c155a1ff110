// Products of pairs of 16-bit integers with AVX-512 VNNI. Every pairs header offers the same operations with the same
// results.
#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace {

// A pair of signed integers for each of 16 lanes.
struct Pairs {
  __m512i v;
  static Pairs load(const std::byte* p) { return {_mm512_loadu_si512(p)}; }
  // The same pair in every lane.
  static Pairs set1(const std::byte* p) {
    int32_t pair = 0;
    std::memcpy(&pair, p, sizeof(pair));
    return {_mm512_set1_epi32(pair)};
  }
};

// Exact sums of products, one per lane.
struct PairSums {
  __m512i v;
  void clear() { v = _mm512_setzero_si512(); }
  // As an instruction, since GCC 12 copies the sums of a large tile back and forth around the intrinsic.
  void add(Pairs a, Pairs b) { asm("vpdpwssd %2, %1, %0" : "+v"(v) : "v"(a.v), "v"(b.v)); }
  Vec16 floats() const { return {_mm512_cvtepi32_ps(v)}; }
};

// Lanes that are whole numbers in the range of 16 bits.
inline void store_i16(Vec16 x, std::byte* p) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(x.v)));
}

}  // namespace
