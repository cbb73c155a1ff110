// Products of pairs of 16-bit integers in portable C++: the oracle of the others.
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace {

struct Pairs {
  int16_t v[32];
  static Pairs load(const std::byte* p) {
    Pairs r;
    std::memcpy(r.v, p, sizeof(r.v));
    return r;
  }
  static Pairs set1(const std::byte* p) {
    Pairs r;
    for (int i = 0; i < 16; ++i) std::memcpy(r.v + 2 * i, p, 4);
    return r;
  }
};

// Unsigned, so that rubbish at positions that nobody sees may overflow.
struct PairSums {
  uint32_t v[16];
  void clear() { std::memset(v, 0, sizeof(v)); }
  void add(const Pairs& a, const Pairs& b) {
    for (int i = 0; i < 16; ++i) {
      v[i] += static_cast<uint32_t>(int32_t{a.v[2 * i]} * b.v[2 * i]) +
              static_cast<uint32_t>(int32_t{a.v[2 * i + 1]} * b.v[2 * i + 1]);
    }
  }
  Vec16 floats() const {
    return Vec16::make([&](int i) { return static_cast<float>(static_cast<int32_t>(v[i])); });
  }
};

inline void store_i16(const Vec16& x, std::byte* p) {
  int16_t v[16];
  for (int i = 0; i < 16; ++i) v[i] = static_cast<int16_t>(x.v[i]);
  std::memcpy(p, v, sizeof(v));
}

}  // namespace
