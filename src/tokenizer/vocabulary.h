/// Token texts by id and ids by text: one arena, one flat hash table.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/tokenizer.h"

namespace mobilellm {

/// Ids above this are refused when loading, before anything is allocated for them.
inline constexpr int64_t kMaxTokenId = (int64_t{1} << 22) - 1;

/// 64-bit hash of a short string; good in all bits.
inline uint64_t hash_text(const char* data, size_t n) {
  __extension__ using Wide = unsigned __int128;
  const auto load8 = [](const char* p) {
    uint64_t v;
    std::memcpy(&v, p, 8);
    return v;
  };
  const auto load4 = [](const char* p) {
    uint32_t v;
    std::memcpy(&v, p, 4);
    return uint64_t{v};
  };
  const auto mix = [](uint64_t a, uint64_t b) {
    const Wide product = static_cast<Wide>(a) * b;
    return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
  };
  constexpr uint64_t k0 = 0xa0761d6478bd642fULL;
  constexpr uint64_t k1 = 0xe7037ed1a0b428dbULL;
  uint64_t seed = n * k1;
  uint64_t a = 0;
  uint64_t b = 0;
  if (n >= 8) {
    size_t left = n;
    const char* p = data;
    for (; left > 16; left -= 16, p += 16) seed = mix(load8(p) ^ k0, load8(p + 8) ^ seed);
    const char* const tail = data + n;
    a = load8(left >= 8 ? p : tail - 8);
    b = load8(tail - 8);
  } else if (n >= 4) {
    a = load4(data);
    b = load4(data + n - 4);
  } else if (n > 0) {
    const auto byte = [data](size_t i) { return uint64_t{static_cast<unsigned char>(data[i])}; };
    a = byte(0) << 16 | byte(n / 2) << 8 | byte(n - 1);
  }
  return mix(a ^ k0 ^ seed, b ^ k1);
}

class Vocabulary {
 public:
  /// Room for `n_tokens` without growing the table.
  void reserve(size_t n_tokens, size_t n_bytes);

  enum class Added { kNew, kTextTaken, kIdTaken };
  /// 0 <= id <= kMaxTokenId.
  Added add(std::string_view text, TokenId id);

  /// -1 when absent.
  TokenId find(std::string_view text) const { return find(text, hash_text(text.data(), text.size())); }
  TokenId find(std::string_view text, uint64_t hash) const {
    if (slots_.empty()) return -1;
    const size_t mask = slots_.size() - 1;
    const auto tag = static_cast<uint32_t>(hash >> 32);
    for (size_t i = hash & mask;; i = (i + 1) & mask) {
      const Slot& slot = slots_[i];
      if (slot.id < 0) return -1;
      if (slot.tag == tag && equals(spans_[static_cast<size_t>(slot.id)], text)) return slot.id;
    }
  }

  bool has(TokenId id) const {
    return id >= 0 && static_cast<size_t>(id) < spans_.size() && spans_[static_cast<size_t>(id)].start != kHole;
  }
  /// Empty for a hole.
  std::string_view text(TokenId id) const {
    if (!has(id)) return {};
    const Span span = spans_[static_cast<size_t>(id)];
    return {arena_.data() + span.start, span.length};
  }
  size_t size() const { return spans_.size(); }  ///< Highest id + 1.
  size_t count() const { return n_tokens_; }
  size_t max_length() const { return max_length_; }  ///< Bytes of the longest token.

 private:
  static constexpr uint32_t kHole = UINT32_MAX;
  struct Span {
    uint32_t start = kHole;
    uint32_t length = 0;
  };
  struct Slot {
    uint32_t tag = 0;
    TokenId id = -1;
  };

  bool equals(Span span, std::string_view text) const {
    return span.length == text.size() && std::memcmp(arena_.data() + span.start, text.data(), text.size()) == 0;
  }
  void rehash(size_t n_slots);

  std::string arena_;
  std::vector<Span> spans_;
  std::vector<Slot> slots_;  // Power of two, at most half full.
  size_t n_tokens_ = 0;
  size_t max_length_ = 0;
};

}  // namespace mobilellm
