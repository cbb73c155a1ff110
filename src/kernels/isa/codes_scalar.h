// Products of 8-bit codes in portable C++: the oracle of the others.
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace {

struct Codes {
  int8_t v[64];
  static Codes load(const std::byte* p) {
    Codes c;
    std::memcpy(c.v, p, sizeof(c.v));
    return c;
  }
  void store(std::byte* p) const { std::memcpy(p, v, sizeof(v)); }
};

struct CodeTable {
  int8_t v[16];
  static CodeTable load(const int8_t* table) {
    CodeTable t;
    std::memcpy(t.v, table, sizeof(t.v));
    return t;
  }
  void unpack(const std::byte* p, Codes& low, Codes& high) const {
    for (int i = 0; i < 64; ++i) {
      low.v[i] = v[std::to_integer<int>(p[i]) & 15];
      high.v[i] = v[std::to_integer<int>(p[i]) >> 4];
    }
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
};

template <bool kSmallCodes>
struct CodeDot {
  static constexpr int kTileVectors = 1;
  static constexpr int kTileTokens = 2;

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
  // this + factor * sums, where factor is a number of 16 bits.
  Vec16 plus(const CodeSums& sums, int32_t factor) const {
    return Vec16::make([&](int i) { return static_cast<float>(v[i] + static_cast<int16_t>(factor) * sums.v[i]); });
  }
};

}  // namespace
