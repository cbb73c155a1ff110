/// Stop strings over a streamed text: found across any borders, never shown.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace mobilellm {

/// Text is held back only while it could still become a stop string.
class StopStrings {
 public:
  /// Empty strings are ignored. Throws kInvalidArgument for more than 64 strings or one longer than 4096 bytes.
  explicit StopStrings(std::vector<std::string> strings);

  /// The text that is now certain to be output. After a stop string was found nothing more is given out.
  std::string push(std::string_view text);
  /// What was held back, at the end of the text.
  std::string finish();

  bool is_found() const { return !found_.empty(); }
  /// The string that was found: the one that begins first; of several there, the longest.
  const std::string& found() const { return found_; }

 private:
  std::vector<std::string> strings_;
  size_t longest_ = 0;
  std::string held_;
  std::string found_;
};

}  // namespace mobilellm
