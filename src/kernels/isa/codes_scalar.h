// Products of 8-bit codes in portable C++: the oracle of the others.
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/panels.h"

namespace {

using mobilellm::CodeRange;

struct Codes {
  int8_t v[64];
  static Codes load(const std::byte* p) {
    Codes c;
    std::memcpy(c.v, p, sizeof(c.v));
    return c;
  }
  void store(std::byte* p) const { std::memcpy(p, v, sizeof(v)); }
  static Codes fill(int8_t value) {
    Codes c;
    std::memset(c.v, value, sizeof(c.v));
    return c;
  }
  // The bits of `mask` of each byte after a move by `left` bits (to the right when negative); none crosses bytes.
  Codes bits(int left, uint8_t mask) const {
    Codes c;
    for (int i = 0; i < 64; ++i) {
      const auto byte = static_cast<uint8_t>(v[i]);
      c.v[i] = static_cast<int8_t>((left >= 0 ? byte << left : byte >> -left) & mask);
    }
    return c;
  }
  friend Codes operator|(const Codes& a, const Codes& b) {
    Codes c;
    for (int i = 0; i < 64; ++i) c.v[i] = static_cast<int8_t>(a.v[i] | b.v[i]);
    return c;
  }
  friend Codes operator-(const Codes& a, const Codes& b) {
    Codes c;
    for (int i = 0; i < 64; ++i) c.v[i] = static_cast<int8_t>(a.v[i] - b.v[i]);
    return c;
  }
};

struct CodeTable {
  int8_t v[16];
  static CodeTable load(const int8_t* table) {
    CodeTable t;
    std::memcpy(t.v, table, sizeof(t.v));
    return t;
  }
  // Indices below 16.
  Codes look_up(const Codes& indices) const {
    Codes c;
    for (int i = 0; i < 64; ++i) c.v[i] = v[indices.v[i]];
    return c;
  }
};

struct CodeSums {
  int32_t v[16];
  static CodeSums load(const float* p) {
    CodeSums s;
    std::memcpy(s.v, p, sizeof(s.v));
    return s;
  }
  void store(float* p) const { std::memcpy(p, v, sizeof(v)); }
  Vec16 as_floats() const {
    return Vec16::make([&](int i) { return static_cast<float>(v[i]); });
  }
};

template <CodeRange kRange>
struct CodeDot {
  static constexpr int kTileVectors = 1;
  static constexpr int kTileTokens = 2;
  static constexpr int kSpreadTileTokens = 2;

  int32_t v[16];
  void clear() { std::memset(v, 0, sizeof(v)); }
  void add(const Codes& codes, uint32_t bytes) {
    for (int row = 0; row < 16; ++row) {
      for (int k = 0; k < 4; ++k) v[row] += codes.v[4 * row + k] * static_cast<int>(bytes >> (8 * k) & 255U);
    }
  }
  void add_ones(const Codes& codes) { add(codes, 0x01010101U); }
  void flush() {}
  CodeSums code_sums() const {
    CodeSums s;
    std::memcpy(s.v, v, sizeof(v));
    return s;
  }
  Vec16 value(const CodeSums& /*sums*/) const {
    return Vec16::make([&](int i) { return static_cast<float>(v[i]); });
  }
};

}  // namespace
