/// Unicode normalization forms, lower case and accent stripping for tokenizer normalizers.
#pragma once

#include <string>
#include <string_view>

namespace mobilellm::unicode {

enum class NormalForm { kNfc, kNfd, kNfkc, kNfkd };

/// Well-formed text in, well-formed text out. Linear time.
std::string normalize(std::string_view text, NormalForm form);
/// Character by character, without context (as the reference: a final sigma is not special).
std::string lower_case(std::string_view text);
/// Drops every character of category M, as Unicode 9 has it (what the reference knows).
std::string strip_accents(std::string_view text);

}  // namespace mobilellm::unicode
