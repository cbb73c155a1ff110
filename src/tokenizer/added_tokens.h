/// Tokens that are found in the text before normalization and splitting: special tokens, tool tags, runs of spaces.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "tokenizer/tokenizer.h"

namespace mobilellm {

struct AddedToken {
  TokenId id = 0;
  std::string content;
  bool is_special = false;
  bool single_word = false;    ///< Only where no word character touches it.
  bool lstrip = false;         ///< Takes the white space before it.
  bool rstrip = false;         ///< Takes the white space after it.
  bool is_normalized = false;  ///< Matched in the normalized text.
  std::string decoded;         ///< What it decodes to: the content, normalized if the token is. Set by AddedTokens.
};

/// A part of a text: an added token (id >= 0) or ordinary text.
struct TextPart {
  TokenId id;
  std::string_view text;
};

/// Leftmost-longest matching of many strings.
class TokenTrie {
 public:
  static constexpr size_t kMaxContent = 4096;
  /// index: what match() gives back. The first index of a text wins.
  void add(std::string_view text, uint32_t index);
  bool empty() const { return children_.empty(); }
  /// First match at or after `from`; false when there is none.
  bool match(std::string_view text, size_t from, size_t& begin, size_t& end, uint32_t& index) const;

 private:
  std::unordered_map<uint64_t, uint32_t> children_;  // node << 8 | byte -> node; 0 is the root.
  std::vector<uint32_t> ends_{kNone};                // By node: index of the text that ends there.
  std::vector<uint32_t> roots_ = std::vector<uint32_t>(256, 0);
  int n_first_bytes_ = 0;
  char only_first_byte_ = 0;
  static constexpr uint32_t kNone = UINT32_MAX;
};

class AddedTokens {
 public:
  /// Ids are unique; the caller has checked that. `normalize` is applied to the content of normalized tokens.
  template <typename Normalize>
  AddedTokens(std::vector<AddedToken> tokens, Normalize&& normalize) : tokens_(std::move(tokens)) {
    for (uint32_t i = 0; i < tokens_.size(); ++i) {
      note(i);
      tokens_[i].decoded =
          tokens_[i].is_normalized ? normalize(std::string_view(tokens_[i].content)) : tokens_[i].content;
      if (tokens_[i].is_normalized) {
        normalized_.add(tokens_[i].decoded, i);
      } else {
        raw_.add(tokens_[i].content, i);
      }
    }
  }

  /// Cuts a text at the tokens that are matched before (or, with `in_normalized`, after) normalization.
  void split(std::string_view text, bool in_normalized, bool parse_special, std::vector<TextPart>& parts) const;
  bool has_any(bool in_normalized) const { return !(in_normalized ? normalized_ : raw_).empty(); }

  const std::vector<AddedToken>& tokens() const { return tokens_; }
  const AddedToken* find(TokenId id) const {
    if (id < 0 || static_cast<size_t>(id) >= by_id_.size() || by_id_[static_cast<size_t>(id)] < 0) return nullptr;
    return &tokens_[static_cast<size_t>(by_id_[static_cast<size_t>(id)])];
  }
  const AddedToken* find(std::string_view content) const;

 private:
  void note(uint32_t index);

  std::vector<AddedToken> tokens_;
  std::vector<int32_t> by_id_;                                 // Index in tokens_, -1 for other ids.
  std::unordered_map<std::string_view, uint32_t> by_content_;  // Views into tokens_, which never changes.
  TokenTrie raw_;
  TokenTrie normalized_;
};

}  // namespace mobilellm
