/// Normalizers of tokenizer.json: text to text, before splitting.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "tokenizer/regex.h"
#include "tokenizer/unicode_normalize.h"

namespace mobilellm {

/// A fixed string or an expression, as Split and Replace take it.
struct TextPattern {
  std::string literal;
  std::optional<Regex> regex;  ///< When set, `literal` is unused.
};

/// Every match of the pattern replaced by `content`, which is taken literally. Stops early, with a result longer than
/// `max_bytes`, when the whole result would be longer than that.
std::string replace_all(std::string_view text, const TextPattern& pattern, std::string_view content,
                        size_t max_bytes = SIZE_MAX);

struct NormalizeForm {
  unicode::NormalForm form;
};
struct LowerCase {};
struct StripAccents {};
struct StripSpaces {
  bool left;
  bool right;
};
struct PrependText {
  std::string text;
};
struct ReplaceText {
  TextPattern pattern;
  std::string content;
};
struct MapBytes {};  ///< Bytes to the printable characters of byte-level vocabularies.

using NormalizerStep =
    std::variant<NormalizeForm, LowerCase, StripAccents, StripSpaces, PrependText, ReplaceText, MapBytes>;

class Normalizer {
 public:
  Normalizer() = default;
  explicit Normalizer(std::vector<NormalizerStep> steps) : steps_(std::move(steps)) {}
  bool empty() const { return steps_.empty(); }
  /// Throws kResourceLimit when a step makes the text longer than max(64 MiB, 16 times the input).
  std::string normalize(std::string_view text) const;

 private:
  std::vector<NormalizerStep> steps_;
};

}  // namespace mobilellm
