/// The boxed answer of a reasoning text: \boxed{...}, found in a whole text or while it streams.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mobilellm {

/// One box of a text.
struct BoxedAnswer {
  std::string content;   ///< Between the braces, untrimmed; for a box without brace the trimmed text up to `$`.
  size_t begin = 0;      ///< Offset of the backslash, in bytes.
  size_t end = 0;        ///< One past the closing brace (or past the text taken).
  bool is_fbox = false;  ///< \fbox instead of \boxed.
};

/// Whether a box's content only echoes the instruction: empty, "." or dots ("...", \ldots), spaces aside.
bool is_boxed_placeholder(std::string_view content);

/// The last \boxed or \fbox of the text (innermost when nested), placeholders included: the last opening command
/// decides, so an unclosed one gives nothing. `\{` and `\}` are literals; without a brace the box takes the text up to
/// the next `$` or the end. Linear time.
std::optional<BoxedAnswer> find_last_box(std::string_view text);

/// The answer of a text: the last box that is closed and not a placeholder echo. Linear time.
std::optional<BoxedAnswer> find_last_boxed(std::string_view text);

/// Watches a streamed text for the first completed \boxed{...} that is not a placeholder. Time is linear in the text
/// pushed; the state is a few bytes plus the first bytes of each open box.
class BoxedScanner {
 public:
  /// Takes the next piece of the text, in any split. Returns the offset in the whole text right after the closing
  /// brace of the first completed box (outermost when nested), where the caller can cut; nothing before that.
  /// Once a box was found, each later call looks for the next one.
  std::optional<size_t> push(std::string_view piece);

  /// Bytes seen so far (all pieces).
  size_t n_bytes() const { return offset_; }
  /// Whether the text ends inside an open box.
  bool is_inside_box() const { return depth_ > 0; }

 private:
  std::optional<size_t> step(char c);

  size_t offset_ = 0;
  size_t n_matched_ = 0;     // Characters of "\boxed" matched; 6 = command complete, waiting for "{".
  bool is_escaped_ = false;  // The last character was an unpaired backslash.
  size_t depth_ = 0;         // Open braces of the box; 0 = outside.
  std::string content_;      // The first bytes of the box, enough to tell a placeholder.
};

}  // namespace mobilellm
