/// Keeps users from writing special tokens into a templated prompt.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "tokenizer/tokenizer.h"

namespace mobilellm {

/// A chat template puts special tokens around the texts of messages, all as one text. To tell its own from those that a
/// user wrote, the latter are broken by a mark before rendering; after it, what is whole is the template's, and what is
/// broken is encoded as ordinary text.
/// Not covered: added tokens that are not special (as "<think>" in most vocabularies), which are recognised in any
/// text, and special tokens that a template puts together from pieces of messages.
class SpecialTokenGuard {
 public:
  /// `tokenizer` must outlive this.
  explicit SpecialTokenGuard(const Tokenizer& tokenizer);

  /// The value with special tokens in all strings broken, roles aside. Remembers whether there were any.
  Json protect(const Json& value);
  bool has_marks() const { return has_marks_; }

  /// The ids of a text rendered from protected values.
  std::vector<TokenId> encode(std::string_view rendered) const;
  /// The text without marks.
  std::string remove_marks(std::string_view rendered) const;

 private:
  std::string break_tokens(std::string_view text);
  // Length in bytes of the longest special token at this place; 0 = none.
  size_t token_at(std::string_view text, size_t offset) const;

  const Tokenizer& tokenizer_;
  std::vector<std::vector<std::string>> by_first_byte_;  // [256]
  bool has_marks_ = false;
};

}  // namespace mobilellm
