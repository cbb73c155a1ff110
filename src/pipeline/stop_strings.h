/// Stop strings over a streamed text: found across any borders, never shown.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace mobilellm {

/// Text is held back only while it could still become a stop string. The result does not depend on how the text is
/// split into pieces. Linear in text times number of strings.
class StopStrings {
 public:
  /// Empty strings are ignored. Throws kInvalidArgument for more than 64 strings or one longer than 4096 bytes.
  explicit StopStrings(const std::vector<std::string>& strings);

  /// The text that is now certain to be output. After a stop string was found nothing more is given out.
  std::string push(std::string_view text);
  /// What was held back, at the end of the text.
  std::string finish();

  bool is_found() const { return found_ != nullptr; }
  /// The string that was found: the one that is complete first; of several ending there, the longest. Empty before.
  const std::string& found() const;

 private:
  // Knuth-Morris-Pratt: how much of the string the text so far ends with.
  struct Pattern {
    std::string text;
    std::vector<size_t> fallback;  // [i]: longest proper prefix of text[0 .. i] that is its suffix, too.
    size_t n_matched = 0;
  };

  std::vector<Pattern> patterns_;
  std::string held_;
  const Pattern* found_ = nullptr;
};

}  // namespace mobilellm
