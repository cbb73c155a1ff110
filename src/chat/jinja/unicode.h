/// Character classes and case conversion of Python's str, by code point.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace mobilellm::jinja {

struct CodeRange {
  uint32_t first, last;
};
/// Every `stride`-th code point of first..last maps to itself plus `delta`.
struct CaseRun {
  uint32_t first, last;
  int32_t stride, delta;
};
struct CaseExpansion {
  uint32_t code_point;
  const char* text;
};

extern const std::span<const CodeRange> kAlpha, kDecimal, kDigit, kNumeric, kLower, kUpper, kTitle, kPrintable, kWord;
extern const std::span<const CaseRun> kToLower, kToUpper, kToTitle;
extern const std::span<const CaseExpansion> kToLowerLong, kToUpperLong, kToTitleLong;

bool contains(std::span<const CodeRange> ranges, char32_t code_point);
/// White space of str.strip, str.split and regular expressions.
bool is_space(char32_t code_point);
/// Line boundaries of str.splitlines ("\r\n" counts as one).
bool is_line_break(char32_t code_point);

std::string to_lower(std::string_view text);
std::string to_upper(std::string_view text);
std::string to_title(std::string_view text);        ///< str.title().
std::string to_capitalized(std::string_view text);  ///< str.capitalize().
std::string to_swapped_case(std::string_view text);
std::string to_casefolded(std::string_view text);  ///< Lower case, with sharp s as "ss" and final sigma as sigma.
void append_upper(std::string& out, char32_t code_point);

std::string_view strip_left(std::string_view text);
std::string_view strip_right(std::string_view text);
/// Strips the code points that occur in `chars`.
std::string_view strip_left(std::string_view text, std::string_view chars);
std::string_view strip_right(std::string_view text, std::string_view chars);

}  // namespace mobilellm::jinja
