// Python's syntax of numbers in text.
#include "chat/jinja/numbers.h"

#include <charconv>
#include <limits>
#include <string>

#include "chat/jinja/unicode.h"

namespace mobilellm::jinja {
namespace {

// Takes out underscores between digits; nothing when one stands elsewhere.
std::optional<std::string> without_underscores(std::string_view text, bool may_lead) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '_') {
      out.push_back(text[i]);
      continue;
    }
    const bool is_after_digit = i > 0 && std::isxdigit(static_cast<unsigned char>(text[i - 1])) != 0;
    const bool is_before_digit = i + 1 < text.size() && std::isxdigit(static_cast<unsigned char>(text[i + 1])) != 0;
    if (!is_before_digit || (!is_after_digit && !(may_lead && i == 0))) return std::nullopt;
  }
  return out;
}

}  // namespace

std::optional<int64_t> parse_integer(std::string_view text, int64_t base, bool& is_overflow) {
  is_overflow = false;
  text = strip_left(strip_right(text));
  bool is_negative = false;
  if (!text.empty() && (text[0] == '-' || text[0] == '+')) {
    is_negative = text[0] == '-';
    text = text.substr(1);
  }
  bool has_prefix = false;
  if (text.size() > 2 && text[0] == '0') {
    const char mark = static_cast<char>(text[1] | 0x20);
    const int64_t marked = mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 0;
    if (marked != 0 && (base == 0 || base == marked)) {
      base = marked;
      text = text.substr(2);
      has_prefix = true;
    }
  }
  if (base == 0) {
    base = 10;
    if (text.size() > 1 && text[0] == '0' && text.find_first_not_of("0_") != std::string_view::npos)
      return std::nullopt;
  }
  if (base < 2 || base > 36) return std::nullopt;
  const std::optional<std::string> digits = without_underscores(text, has_prefix);
  if (!digits || digits->empty() || (*digits)[0] == '-' || (*digits)[0] == '+') return std::nullopt;
  const std::string signed_digits = (is_negative ? "-" : "") + *digits;
  int64_t value = 0;
  const char* end = signed_digits.data() + signed_digits.size();
  const auto result = std::from_chars(signed_digits.data(), end, value, static_cast<int>(base));
  if (result.ptr != end) return std::nullopt;
  if (result.ec == std::errc::result_out_of_range) is_overflow = true;
  if (result.ec != std::errc()) return std::nullopt;
  return value;
}

std::optional<double> parse_float(std::string_view text) {
  text = strip_left(strip_right(text));
  bool is_negative = false;
  if (!text.empty() && (text[0] == '-' || text[0] == '+')) {
    is_negative = text[0] == '-';
    text = text.substr(1);
  }
  const std::string lower = to_lower(text);
  double value = 0.0;
  if (lower == "inf" || lower == "infinity") {
    value = std::numeric_limits<double>::infinity();
  } else if (lower == "nan") {
    value = std::numeric_limits<double>::quiet_NaN();
  } else {
    if (text.find_first_not_of("0123456789._eE+-") != std::string_view::npos) return std::nullopt;
    const std::optional<std::string> digits = without_underscores(text, false);
    if (!digits || digits->empty() || (*digits)[0] == '-' || (*digits)[0] == '+') return std::nullopt;
    const char* end = digits->data() + digits->size();
    const auto result = std::from_chars(digits->data(), end, value);
    if (result.ptr != end) return std::nullopt;
    if (result.ec == std::errc::result_out_of_range) {
      value = digits->find("e-") != std::string::npos || digits->find("E-") != std::string::npos
                  ? 0.0
                  : std::numeric_limits<double>::infinity();
    }
  }
  return is_negative ? -value : value;
}

}  // namespace mobilellm::jinja
