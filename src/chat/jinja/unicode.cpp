// Look-ups in the generated Unicode tables, and the string conversions built on them.
#include "chat/jinja/unicode.h"

#include <algorithm>

#include "base/utf8.h"

namespace mobilellm::jinja {
namespace {

constexpr char32_t kSigma = 0x3A3;
constexpr char32_t kFinalSigma = 0x3C2;
constexpr char32_t kSmallSigma = 0x3C3;

template <typename Row>
const Row* find_row(std::span<const Row> rows, char32_t code_point) {
  const auto it = std::upper_bound(rows.begin(), rows.end(), code_point,
                                   [](char32_t value, const Row& row) { return value < row.first; });
  if (it == rows.begin()) return nullptr;
  const Row& row = *(it - 1);
  return code_point <= row.last ? &row : nullptr;
}

void append_mapped(std::string& out, char32_t code_point, std::span<const CaseRun> runs,
                   std::span<const CaseExpansion> expansions) {
  if (const CaseRun* run = find_row(runs, code_point)) {
    if ((code_point - run->first) % static_cast<uint32_t>(run->stride) == 0) {
      append_utf8(out, static_cast<char32_t>(static_cast<int64_t>(code_point) + run->delta));
      return;
    }
  }
  const auto it = std::lower_bound(expansions.begin(), expansions.end(), code_point,
                                   [](const CaseExpansion& row, char32_t value) { return row.code_point < value; });
  if (it != expansions.end() && it->code_point == code_point) {
    out.append(it->text);
    return;
  }
  append_utf8(out, code_point);
}

bool is_cased(char32_t code_point) {
  return contains(kLower, code_point) || contains(kUpper, code_point) || contains(kTitle, code_point);
}

void append_title(std::string& out, char32_t code_point) {
  if (code_point < 0x80) {
    out.push_back(code_point >= 'a' && code_point <= 'z' ? static_cast<char>(code_point - 32)
                                                         : static_cast<char>(code_point));
    return;
  }
  append_mapped(out, code_point, kToTitle, kToTitleLong);
}

// Lower case of the character at `at`; the Greek sigma depends on its neighbours.
void append_lower(std::string& out, char32_t code_point, std::string_view text, size_t at, size_t n_bytes) {
  if (code_point < 0x80) {
    out.push_back(code_point >= 'A' && code_point <= 'Z' ? static_cast<char>(code_point + 32)
                                                         : static_cast<char>(code_point));
    return;
  }
  if (code_point == kSigma) {
    bool is_after_letter = false;
    for (size_t i = at; i > 0 && !is_after_letter;) {
      do {
        --i;
      } while (i > 0 && (static_cast<unsigned char>(text[i]) & 0xC0) == 0x80);
      const char32_t before = decode_utf8(text, i).code_point;
      if (before != '\'' && before != 0xAD && before != 0x2019 && before != '.') {
        is_after_letter = is_cased(before);
        break;
      }
    }
    const Utf8Char next = decode_utf8(text, at + n_bytes);
    const bool is_before_letter = next.n_bytes > 0 && is_cased(next.code_point);
    append_utf8(out, is_after_letter && !is_before_letter ? kFinalSigma : kSmallSigma);
    return;
  }
  append_mapped(out, code_point, kToLower, kToLowerLong);
}

}  // namespace

bool contains(std::span<const CodeRange> ranges, char32_t code_point) {
  return find_row(ranges, code_point) != nullptr;
}

bool is_space(char32_t c) {
  return (c >= 9 && c <= 13) || (c >= 28 && c <= 32) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool is_line_break(char32_t c) {
  return (c >= 10 && c <= 13) || (c >= 28 && c <= 30) || c == 0x85 || c == 0x2028 || c == 0x2029;
}

std::string to_lower(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = decode_utf8(text, at);
    append_lower(out, c.code_point, text, at, static_cast<size_t>(c.n_bytes));
    at += static_cast<size_t>(c.n_bytes);
  }
  return out;
}

void append_upper(std::string& out, char32_t code_point) {
  if (code_point < 0x80) {
    out.push_back(code_point >= 'a' && code_point <= 'z' ? static_cast<char>(code_point - 32)
                                                         : static_cast<char>(code_point));
    return;
  }
  append_mapped(out, code_point, kToUpper, kToUpperLong);
}

std::string to_upper(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = decode_utf8(text, at);
    append_upper(out, c.code_point);
    at += static_cast<size_t>(c.n_bytes);
  }
  return out;
}

std::string to_title(std::string_view text) {
  std::string out;
  bool is_after_cased = false;
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = decode_utf8(text, at);
    if (is_after_cased) {
      append_lower(out, c.code_point, text, at, static_cast<size_t>(c.n_bytes));
    } else {
      append_title(out, c.code_point);
    }
    is_after_cased = is_cased(c.code_point);
    at += static_cast<size_t>(c.n_bytes);
  }
  return out;
}

std::string to_capitalized(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = decode_utf8(text, at);
    if (at == 0) {
      append_title(out, c.code_point);
    } else {
      append_lower(out, c.code_point, text, at, static_cast<size_t>(c.n_bytes));
    }
    at += static_cast<size_t>(c.n_bytes);
  }
  return out;
}

std::string to_swapped_case(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = decode_utf8(text, at);
    if (contains(kUpper, c.code_point)) {
      append_lower(out, c.code_point, text, at, static_cast<size_t>(c.n_bytes));
    } else if (contains(kLower, c.code_point)) {
      append_upper(out, c.code_point);
    } else {
      out.append(text.substr(at, static_cast<size_t>(c.n_bytes)));
    }
    at += static_cast<size_t>(c.n_bytes);
  }
  return out;
}

std::string to_casefolded(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = decode_utf8(text, at);
    if (c.code_point == 0xDF || c.code_point == 0x1E9E) {
      out += "ss";
    } else if (c.code_point == kFinalSigma || c.code_point == kSigma) {
      append_utf8(out, kSmallSigma);
    } else {
      append_lower(out, c.code_point, text, at, static_cast<size_t>(c.n_bytes));
    }
    at += static_cast<size_t>(c.n_bytes);
  }
  return out;
}

namespace {

template <typename Drop>
std::string_view strip_left_if(std::string_view text, Drop drop) {
  size_t at = 0;
  while (at < text.size()) {
    const Utf8Char c = decode_utf8(text, at);
    if (!drop(c.code_point)) break;
    at += static_cast<size_t>(c.n_bytes);
  }
  return text.substr(at);
}

template <typename Drop>
std::string_view strip_right_if(std::string_view text, Drop drop) {
  while (!text.empty()) {
    size_t at = text.size() - 1;
    while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) --at;
    if (!drop(decode_utf8(text, at).code_point)) break;
    text = text.substr(0, at);
  }
  return text;
}

std::u32string code_points(std::string_view text) {
  std::u32string out;
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = decode_utf8(text, at);
    out.push_back(c.code_point);
    at += static_cast<size_t>(c.n_bytes);
  }
  return out;
}

}  // namespace

std::string_view strip_left(std::string_view text) { return strip_left_if(text, is_space); }
std::string_view strip_right(std::string_view text) { return strip_right_if(text, is_space); }

std::string_view strip_left(std::string_view text, std::string_view chars) {
  const std::u32string set = code_points(chars);
  return strip_left_if(text, [&](char32_t c) { return set.find(c) != std::u32string::npos; });
}

std::string_view strip_right(std::string_view text, std::string_view chars) {
  const std::u32string set = code_points(chars);
  return strip_right_if(text, [&](char32_t c) { return set.find(c) != std::u32string::npos; });
}

}  // namespace mobilellm::jinja
