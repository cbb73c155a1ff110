/// Steps that every vocabulary loader shares: checked filling of the vocabulary, merges, special tokens.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/tokenizer_parts.h"

namespace mobilellm {

/// Collects a vocabulary and its merges; errors lead with the origin.
class ModelBuilder {
 public:
  ModelBuilder(std::string origin, bool is_byte_level, size_t n_tokens, size_t n_bytes);

  /// `text` as in the file. Throws kCorruptData for an id or text that is taken.
  void add_token(std::string_view text, int64_t id, std::string_view where);
  /// A byte-level token given as raw bytes, or any other as text.
  void add_raw_token(std::string_view bytes, int64_t id, std::string_view where);
  void reserve_merges(size_t n_merges) { merges_.reserve(n_merges); }
  /// Texts as in the file, which must live until finish(): merges are taken in small batches, so that their look-ups
  /// overlap in memory. Throws kCorruptData, here or in finish(), when a part or the whole is no token.
  void add_merge(std::string_view left, std::string_view right, size_t rank);
  /// "left right".
  void add_merge_line(std::string_view line, size_t rank);
  /// Every split of a token into two tokens merges, at the token's rank; tokens with `rank_of` kNoRank are left out.
  /// Throws kResourceLimit when the tokens are too long for that.
  void add_all_merges(const std::function<uint32_t(TokenId)>& rank_of);

  /// -1 when absent.
  TokenId find(std::string_view text) const;
  bool has(TokenId id) const { return vocabulary_.has(id) || other_.has(id); }

  /// Throws kCorruptData for an added token that contradicts the vocabulary or another one.
  void check_added_tokens(const std::vector<AddedToken>& tokens) const;
  /// Ends building.
  std::unique_ptr<Tokenizer::Parts> finish(BpeOptions options, std::vector<AddedToken> added, Normalizer normalizer);

  const std::string& origin() const { return origin_; }

 private:
  struct PendingMerge {
    std::string_view left;
    std::string_view right;
    size_t rank;
    size_t start;   // In pending_text_: both parts, as the vocabulary has them.
    size_t n_left;  // Bytes.
    size_t n_whole;
    TextKey keys[3];  // Of left, right and both.
    TokenId ids[3];
  };
  void take_pending_merges();

  std::string origin_;
  bool is_byte_level_;
  Vocabulary vocabulary_;
  Vocabulary other_;
  MergeTable merges_;
  std::string buffer_;
  std::vector<PendingMerge> pending_;
  std::string pending_text_;
};

/// Turns the last step of a byte-level pre-tokenizer into byte-level merging and joins steps that have one scanner.
/// True when the vocabulary is to be byte-level.
bool simplify_steps(std::vector<PreTokenizerStep>& steps, bool may_be_byte_level);

}  // namespace mobilellm
