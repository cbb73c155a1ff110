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

/// A text as two words and a hash. Up to 16 bytes, (lo, hi, n) holds the text exactly; `lo` alone up to 8.
struct TextKey {
  uint64_t lo = 0;
  uint64_t hi = 0;
  uint64_t hash = 0;
  uint32_t n = 0;  ///< Bytes.
};

inline TextKey make_text_key(std::string_view text) {
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
  const char* const data = text.data();
  const size_t n = text.size();
  TextKey key;
  key.n = static_cast<uint32_t>(n);
  uint64_t seed = n * k1;
  if (n > 16) {
    const char* p = data;
    for (size_t left = n; left > 16; left -= 16, p += 16) seed = mix(load8(p) ^ k0, load8(p + 8) ^ seed);
    key.lo = load8(data + n - 16);
    key.hi = load8(data + n - 8);
  } else if (n > 8) {
    key.lo = load8(data);
    key.hi = load8(data + n - 8);
  } else if (n >= 4) {
    key.lo = load4(data) | load4(data + n - 4) << 32;
  } else if (n > 0) {
    const auto byte = [data](size_t i) { return uint64_t{static_cast<unsigned char>(data[i])}; };
    key.lo = byte(0) | byte(n / 2) << 8 | byte(n - 1) << 16;
  }
  key.hash = mix(key.lo ^ k0 ^ seed, key.hi ^ k1);
  return key;
}

class Vocabulary {
 public:
  /// Room for `n_tokens` without growing the table.
  void reserve(size_t n_tokens, size_t n_bytes);

  enum class Added { kNew, kTextTaken, kIdTaken };
  /// 0 <= id <= kMaxTokenId.
  Added add(std::string_view text, TokenId id);

  /// -1 when absent.
  TokenId find(std::string_view text) const { return find(text, make_text_key(text)); }
  TokenId find(std::string_view text, const TextKey& key) const {
    if (slots_.empty()) return -1;
    const size_t mask = slots_.size() - 1;
    const uint64_t word = slot_word(key);
    for (size_t i = key.hash & mask;; i = (i + 1) & mask) {
      const Slot& slot = slots_[i];
      if (slot.id < 0) return -1;
      if (slot.word == word && slot.n == key.n && (key.n <= 8 || this->text(slot.id) == text)) return slot.id;
    }
  }

  /// Starts loading what find() with this key will read first.
  void prefetch(const TextKey& key) const {
    if (!slots_.empty()) __builtin_prefetch(&slots_[key.hash & (slots_.size() - 1)]);
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
  /// Short texts are compared within the slot, without touching the arena.
  struct Slot {
    uint64_t word = 0;  // The text itself up to 8 bytes, else its hash.
    uint32_t n = 0;
    TokenId id = -1;
  };
  static uint64_t slot_word(const TextKey& key) { return key.n <= 8 ? key.lo : key.hash; }
  void rehash(size_t n_slots);

  std::string arena_;
  std::vector<Span> spans_;
  std::vector<Slot> slots_;  // Power of two, at most half full.
  size_t n_tokens_ = 0;
  size_t max_length_ = 0;
};

}  // namespace mobilellm
