/// UTF-8 decoding, validation and repair.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace mobilellm {

inline constexpr char32_t kReplacementChar = 0xFFFD;

struct Utf8Char {
  char32_t code_point = 0;  ///< kReplacementChar when ill-formed.
  int n_bytes = 0;          ///< Bytes consumed: the character, or the maximal ill-formed subpart (Unicode 3.9, U+FFFD
                            ///< substitution). 0 at the end.
  bool is_valid = false;
  bool is_truncated = false;  ///< The text ends inside a sequence that is well-formed so far.
};

/// The character at `offset`.
Utf8Char decode_utf8(std::string_view text, size_t offset);
void append_utf8(std::string& out, char32_t code_point);
bool is_valid_utf8(std::string_view text);
/// Each maximal ill-formed subpart becomes one U+FFFD.
std::string repair_utf8(std::string_view text);
/// Number of code points of well-formed text.
size_t count_code_points(std::string_view text);
/// Bytes at the end of `text` that begin a character which may still be completed (0..3).
size_t incomplete_utf8_tail(std::string_view text);

}  // namespace mobilellm
