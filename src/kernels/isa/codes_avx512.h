// Products of 8-bit codes with AVX-512 VNNI. Every codes header offers the same operations with the same results.
#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/panels.h"

namespace {

using mobilellm::CodeRange;

// Signed codes: 4 columns of each of 16 rows.
struct Codes {
  __m512i v;
  static Codes load(const std::byte* p) { return {_mm512_loadu_si512(p)}; }
  void store(std::byte* p) const { _mm512_storeu_si512(p, v); }
  static Codes fill(int8_t value) { return {_mm512_set1_epi8(value)}; }
  // The bits of `mask` of each byte after a move by `left` bits (to the right when negative); none crosses bytes.
  Codes bits(int left, uint8_t mask) const {
    const __m512i moved = left >= 0 ? _mm512_slli_epi16(v, static_cast<unsigned>(left))
                                    : _mm512_srli_epi16(v, static_cast<unsigned>(-left));
    return {_mm512_and_si512(moved, _mm512_set1_epi8(static_cast<char>(mask)))};
  }
  friend Codes operator|(Codes a, Codes b) { return {_mm512_or_si512(a.v, b.v)}; }
  friend Codes operator-(Codes a, Codes b) { return {_mm512_sub_epi8(a.v, b.v)}; }
};

// 4-bit codes are indices into a table of 16 signed bytes.
struct CodeTable {
  __m512i v;
  static CodeTable load(const int8_t* table) {
    return {_mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)))};
  }
  // Indices below 16.
  Codes look_up(Codes indices) const { return {_mm512_shuffle_epi8(v, indices.v)}; }
};

// Sum of a block's codes per row.
struct CodeSums {
  __m512i v;
  static CodeSums load(const float* p) { return {_mm512_loadu_si512(p)}; }
  void store(float* p) const { _mm512_storeu_si512(p, v); }
  Vec16 as_floats() const { return {_mm512_cvtepi32_ps(v)}; }
};

// Exact sums of codes times unsigned bytes, one per row. flush() follows every 4 calls of add() at the latest, every 2
// when codes are not within +-16.
template <CodeRange kRange>
struct CodeDot {
  static constexpr int kTileVectors = 2;
  static constexpr int kTileTokens = 8;
  static constexpr int kSpreadTileTokens = 6;

  __m512i v;
  void clear() { v = _mm512_setzero_si512(); }
  void add(Codes codes, uint32_t bytes) {
    v = _mm512_dpbusd_epi32(v, _mm512_set1_epi32(static_cast<int>(bytes)), codes.v);
  }
  // For sums of codes.
  void add_ones(Codes codes) { add(codes, 0x01010101U); }
  void flush() {}
  CodeSums code_sums() const { return {v}; }
  // The sums as floats; the sums of codes may be of use for them.
  Vec16 value(CodeSums /*sums*/) const { return {_mm512_cvtepi32_ps(v)}; }
};

}  // namespace
