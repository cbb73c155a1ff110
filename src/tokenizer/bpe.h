/// Byte-pair encoding of one pre-tokenized piece: vocabulary, merges and the merge loop.
#pragma once

#include <atomic>
#include <memory>
#include <string_view>
#include <vector>

#include "tokenizer/tokenizer.h"
#include "tokenizer/vocabulary.h"

namespace mobilellm {

/// (left, right) -> rank and merged token. Flat hash table.
class MergeTable {
 public:
  static constexpr uint32_t kNoRank = UINT32_MAX;
  struct Merge {
    uint32_t rank = kNoRank;  ///< Lower goes first.
    TokenId id = -1;
  };

  void reserve(size_t n_merges);
  /// A pair that is named again takes its last rank, as in the reference.
  void set(TokenId left, TokenId right, Merge merge);
  Merge find(TokenId left, TokenId right) const {
    if (slots_.empty()) return {};
    const size_t mask = slots_.size() - 1;
    for (size_t i = hash(left, right) & mask;; i = (i + 1) & mask) {
      const Slot& slot = slots_[i];
      if (slot.left == left && slot.right == right) return slot.merge;
      if (slot.left < 0) return {};
    }
  }
  /// Starts loading what find() or set() of this pair will read first.
  void prefetch(TokenId left, TokenId right) const {
    if (!slots_.empty()) __builtin_prefetch(&slots_[hash(left, right) & (slots_.size() - 1)]);
  }
  size_t size() const { return n_merges_; }
  /// Calls visit(left, right) for every pair, in no useful order.
  template <typename Visit>
  void for_each_pair(Visit&& visit) const {
    for (const Slot& slot : slots_) {
      if (slot.left >= 0) visit(slot.left, slot.right);
    }
  }

 private:
  struct Slot {
    TokenId left = -1;
    TokenId right = -1;
    Merge merge;
  };
  static size_t hash(TokenId left, TokenId right) {
    const uint64_t key =
        (uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right)) * 0x9E3779B97F4A7C15ULL;
    return static_cast<size_t>((key ^ (key >> 32)) * 0xD6E8FEB86659FD93ULL >> 24);
  }
  void grow(size_t n_slots);

  std::vector<Slot> slots_;
  size_t n_merges_ = 0;
};

struct BpeOptions {
  /// Pieces and vocabulary are raw bytes and every byte starts as a symbol (byte-level); else characters do.
  bool is_byte_level = false;
  bool ignore_merges = false;  ///< A piece that is a token is taken whole, even where merges lead elsewhere.
  bool byte_fallback = false;  ///< A character without token becomes its bytes' "<0xNN>" tokens.
  bool fuse_unknown = false;   ///< A run of unknown characters is one unknown token.
  TokenId unknown_id = -1;     ///< -1: unknown characters vanish.
};

class Bpe {
 public:
  /// Vocabulary texts are raw bytes when options.is_byte_level.
  Bpe(Vocabulary vocabulary, MergeTable merges, BpeOptions options);

  /// What one encode() call reuses between pieces.
  class Scratch;

  /// Appends the ids of one piece.
  void encode_piece(std::string_view piece, std::vector<TokenId>& out, Scratch& scratch) const;

  const Vocabulary& vocabulary() const { return vocabulary_; }
  const MergeTable& merges() const { return merges_; }
  const BpeOptions& options() const { return options_; }
  /// Token of a raw byte: the byte-level symbol or "<0xNN>"; -1 when there is none.
  TokenId byte_id(unsigned char byte) const { return byte_ids_[byte]; }
  /// The byte of a "<0xNN>" token, -1 for any other.
  int byte_of(TokenId id) const;

 private:
  void encode_characters(std::string_view piece, std::vector<TokenId>& out, Scratch& scratch) const;
  void encode_unit(std::string_view unit, std::vector<TokenId>& out, Scratch& scratch) const;
  void find_ids(std::string_view unit, const TextKey& key, std::vector<TokenId>& out, Scratch& scratch) const;
  void merge_unit(std::string_view unit, std::vector<TokenId>& out, Scratch& scratch) const;
  void start_symbols(std::string_view unit, std::vector<TokenId>& symbols) const;
  void merge_short(TokenId* symbols, MergeTable::Merge* merges, size_t n, std::vector<TokenId>& out) const;
  void merge_long(const std::vector<TokenId>& symbols, std::vector<TokenId>& out) const;
  TokenId character_id(char32_t c, std::string_view text) const {
    return c < character_ids_.size() ? character_ids_[c] : vocabulary_.find(text);
  }
  void note_crossed_boundaries();
  bool may_merge_across(char32_t left, char32_t right) const;

  Vocabulary vocabulary_;
  MergeTable merges_;
  BpeOptions options_;
  std::vector<TokenId> byte_ids_;
  std::vector<MergeTable::Merge> byte_merges_;  // Byte-level: of every two bytes, left * 256 + right.
  std::vector<TokenId> character_ids_;          // Character mode: of the characters below U+10000.
  std::vector<uint64_t> boundary_bits_;  // Character mode: Bloom filter of the character pairs that some merge joins.
  bool is_complete_ = false;             // Every byte has a token, so that no character is unknown.
  // Per token, found when first needed: 0 not known, 1 its text encodes to itself, 2 to something else.
  std::unique_ptr<std::atomic<uint8_t>[]> is_whole_;
};

/// Remembers the ids of the short pieces of one text. Off for short texts, where it would not pay.
class Bpe::Scratch {
 public:
  explicit Scratch(size_t n_text_bytes, const std::vector<bool>* barred = nullptr);

 private:
  friend class Bpe;
  static constexpr size_t kMaxText = 16;  // What a TextKey holds exactly.
  static constexpr size_t kMaxIds = 11;
  /// One cache line.
  struct alignas(64) Entry {
    uint64_t lo;
    uint64_t hi;
    uint16_t n_text = 0;  // 0: unused.
    uint16_t n_ids;
    TokenId ids[kMaxIds];
  };
  const std::vector<bool>* barred_;  // Tokens that text must not become as a whole, or nullptr.
  std::vector<Entry> entries_;       // Power of two, or empty.
  std::vector<TokenId> symbols_;
};

}  // namespace mobilellm
