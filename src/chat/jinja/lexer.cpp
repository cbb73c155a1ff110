// Splits a template into data and tokens: one linear pass, in the order of rules of Jinja's lexer.
#include "chat/jinja/lexer.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "base/error.h"
#include "base/utf8.h"
#include "chat/jinja/unicode.h"

namespace mobilellm::jinja {
namespace {

constexpr size_t kMaxTokens = 1'000'000;

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_octal(char c) { return c >= '0' && c <= '7'; }
bool is_binary(char c) { return c == '0' || c == '1'; }
bool is_hex(char c) { return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }

std::string normalize_newlines(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\r') {
      out.push_back('\n');
      if (i + 1 < text.size() && text[i + 1] == '\n') ++i;
    } else {
      out.push_back(text[i]);
    }
  }
  return out;
}

class Lexer {
 public:
  Lexer(std::string_view source, std::string_view origin) : origin_(origin), source_(normalize_newlines(source)) {
    if (!source_.empty() && source_.back() == '\n') source_.pop_back();
  }

  std::vector<Token> run() {
    if (!is_valid_utf8(source_)) fail_at(origin_, 1, "the template is not valid UTF-8");
    while (at_ < source_.size()) read_root();
    add(TokenKind::kEnd);
    return std::move(tokens_);
  }

 private:
  char peek(size_t ahead = 0) const { return at_ + ahead < source_.size() ? source_[at_ + ahead] : '\0'; }
  bool looking_at(std::string_view text) const { return std::string_view(source_).substr(at_, text.size()) == text; }

  [[noreturn]] void fail_here(std::string_view message) const { fail_at(origin_, line_, message); }

  void advance(size_t n) {
    line_ += static_cast<int>(std::count(source_.begin() + static_cast<std::ptrdiff_t>(at_),
                                         source_.begin() + static_cast<std::ptrdiff_t>(at_ + n), '\n'));
    at_ += n;
  }

  Token& add(TokenKind kind, std::string text = {}) {
    if (tokens_.size() >= kMaxTokens) fail(ErrorCode::kResourceLimit, "[template] {}: too many tokens", origin_);
    Token& token = tokens_.emplace_back();
    token.kind = kind;
    token.line = line_;
    token.text = std::move(text);
    return token;
  }

  void skip_space() {
    const size_t n = source_.size() - at_ - strip_left(std::string_view(source_).substr(at_)).size();
    advance(n);
  }

  // Data before a tag that opens at `tag`, with the white space that the tag takes away.
  void add_data(size_t tag, char sign, bool is_variable) {
    std::string_view text = std::string_view(source_).substr(at_, tag - at_);
    if (sign == '-') {
      text = strip_right(text);
    } else if (sign != '+' && !is_variable) {
      const size_t newline = text.rfind('\n');
      const size_t line_start = newline == std::string_view::npos ? 0 : newline + 1;
      if ((line_start > 0 || is_line_start_) && strip_left(text.substr(line_start)).empty()) {
        text = text.substr(0, line_start);
      }
    }
    if (!text.empty()) add(TokenKind::kData, std::string(text));
    advance(tag - at_);
  }

  void read_root() {
    size_t tag = at_;
    while (true) {
      tag = source_.find('{', tag);
      if (tag == std::string::npos || tag + 1 >= source_.size()) {
        add(TokenKind::kData, source_.substr(at_));
        advance(source_.size() - at_);
        return;
      }
      const char next = source_[tag + 1];
      if (next == '%' || next == '{' || next == '#') break;
      ++tag;
    }
    const char kind = source_[tag + 1];
    const char after = tag + 2 < source_.size() ? source_[tag + 2] : '\0';
    const char sign = after == '-' || after == '+' ? after : '\0';
    add_data(tag, sign, kind == '{');
    is_line_start_ = false;
    if (kind == '%' && read_raw(sign)) return;
    advance(sign != '\0' ? 3 : 2);
    if (kind == '#') {
      read_comment();
    } else {
      add(kind == '%' ? TokenKind::kBlockBegin : TokenKind::kVariableBegin);
      read_tag(kind == '%');
    }
  }

  // The end of a tag or comment at the current place: eats the white space that it takes away.
  bool read_end(std::string_view end, bool allows_plus, bool trims_newline) {
    if (peek() == '-' && std::string_view(source_).substr(at_ + 1, 2) == end) {
      advance(3);
      skip_space();
    } else if (allows_plus && peek() == '+' && std::string_view(source_).substr(at_ + 1, 2) == end) {
      advance(3);
    } else if (looking_at(end)) {
      advance(2);
      if (trims_newline && peek() == '\n') advance(1);
    } else {
      return false;
    }
    is_line_start_ = at_ > 0 && source_[at_ - 1] == '\n';
    return true;
  }

  void read_comment() {
    const size_t close = source_.find("#}", at_);
    if (close == std::string::npos) fail_here("Missing end of comment tag");
    const char before = close > at_ ? source_[close - 1] : '\0';
    advance((before == '-' || before == '+' ? close - 1 : close) - at_);
    read_end("#}", true, true);
  }

  // {% raw %} ... {% endraw %}, when the tag at the current place is one.
  bool read_raw(char sign) {
    size_t i = at_ + (sign != '\0' ? 3 : 2);
    const auto skip = [&](size_t from) {
      const std::string_view rest = std::string_view(source_).substr(from);
      return from + rest.size() - strip_left(rest).size();
    };
    i = skip(i);
    if (source_.compare(i, 3, "raw") != 0) return false;
    i = skip(i + 3);
    if (source_.compare(i, 3, "-%}") == 0) {
      i = skip(i + 3);
    } else if (source_.compare(i, 2, "%}") == 0) {
      i += 2;
    } else {
      return false;
    }
    advance(i - at_);
    for (size_t tag = source_.find("{%", at_); tag != std::string::npos; tag = source_.find("{%", tag + 2)) {
      size_t j = tag + 2;
      const char end_sign = j < source_.size() && (source_[j] == '-' || source_[j] == '+') ? source_[j] : '\0';
      j = skip(end_sign != '\0' ? j + 1 : j);
      if (source_.compare(j, 6, "endraw") != 0) continue;
      j = skip(j + 6);
      const size_t close = j < source_.size() && (source_[j] == '-' || source_[j] == '+') ? j + 1 : j;
      if (source_.compare(close, 2, "%}") != 0) continue;
      // Jinja takes line_starting from the match before, which ended with the tag.
      is_line_start_ = at_ > 0 && source_[at_ - 1] == '\n';
      add_data(tag, end_sign, false);
      advance(j - at_);
      read_end("%}", true, true);
      return true;
    }
    fail_here("Missing end of raw directive");
  }

  void read_tag(bool is_block) {
    std::vector<char> open_brackets;
    while (true) {
      if (open_brackets.empty() && read_end(is_block ? "%}" : "}}", is_block, is_block)) {
        tokens_.push_back({is_block ? TokenKind::kBlockEnd : TokenKind::kVariableEnd, end_line_, {}, 0, 0.0});
        return;
      }
      if (at_ >= source_.size()) return;  // The parser reports the unexpected end.
      const Utf8Char c = decode_utf8(source_, at_);
      if (is_space(c.code_point)) {
        advance(static_cast<size_t>(c.n_bytes));
      } else if (is_digit(peek())) {
        read_number();
      } else if (contains(kWord, c.code_point)) {
        read_name();
      } else if ((peek() == '"' || peek() == '\'') && read_string(peek())) {
        continue;
      } else {
        read_operator(open_brackets);
      }
      end_line_ = line_;
    }
  }

  void read_name() {
    const size_t begin = at_;
    while (at_ < source_.size()) {
      const Utf8Char c = decode_utf8(source_, at_);
      if (!contains(kWord, c.code_point)) break;
      at_ += static_cast<size_t>(c.n_bytes);
    }
    add(TokenKind::kName, source_.substr(begin, at_ - begin));
  }

  // Digits with single underscores between them, from `at`; returns the end.
  template <typename IsDigit>
  size_t digits_end(size_t at, IsDigit is_ok, bool may_start_with_underscore) const {
    if (may_start_with_underscore && at < source_.size() && source_[at] == '_') ++at;
    size_t end = at;
    while (end < source_.size() && is_ok(source_[end])) {
      ++end;
      if (end + 1 < source_.size() && source_[end] == '_' && is_ok(source_[end + 1])) ++end;
    }
    return end;
  }

  void read_number() {
    const size_t begin = at_;
    const bool is_after_dot = begin > 0 && source_[begin - 1] == '.';
    // Float: digits, then a fraction, an exponent or both.
    size_t end = digits_end(begin, is_digit, false);
    bool is_float = false;
    if (!is_after_dot) {
      size_t tail = end;
      if (tail + 1 < source_.size() && source_[tail] == '.' && is_digit(source_[tail + 1])) {
        tail = digits_end(tail + 1, is_digit, false);
        is_float = true;
      }
      size_t exponent = tail;
      if (exponent < source_.size() && (source_[exponent] == 'e' || source_[exponent] == 'E')) {
        ++exponent;
        if (exponent < source_.size() && (source_[exponent] == '+' || source_[exponent] == '-')) ++exponent;
        if (exponent < source_.size() && is_digit(source_[exponent])) {
          tail = digits_end(exponent, is_digit, false);
          is_float = true;
        }
      }
      if (is_float) end = tail;
    }
    if (is_float) {
      const std::string text = without_underscores(begin, end);
      at_ = end;
      double number = 0.0;
      const auto result = std::from_chars(text.data(), text.data() + text.size(), number);
      if (result.ec == std::errc::result_out_of_range && text.find("e-") == std::string::npos &&
          text.find("E-") == std::string::npos) {
        number = HUGE_VAL;
      }
      add(TokenKind::kFloat).number = number;
      return;
    }
    read_integer(begin);
  }

  void read_integer(size_t begin) {
    int base = 10;
    size_t start = begin;
    size_t end = 0;
    if (source_[begin] == '0' && begin + 1 < source_.size()) {
      const char mark = static_cast<char>(source_[begin + 1] | 0x20);
      size_t prefixed_end = begin + 2;
      if (mark == 'x') {
        base = 16;
        prefixed_end = digits_end(begin + 2, is_hex, true);
      } else if (mark == 'o') {
        base = 8;
        prefixed_end = digits_end(begin + 2, is_octal, true);
      } else if (mark == 'b') {
        base = 2;
        prefixed_end = digits_end(begin + 2, is_binary, true);
      }
      const size_t first = begin + 2 < source_.size() && source_[begin + 2] == '_' ? begin + 3 : begin + 2;
      if (base != 10 && prefixed_end > first) {
        start = first;
        end = prefixed_end;
      } else {
        base = 10;
      }
    }
    if (end == 0) {
      // A decimal number has no leading zero: "012" is the number 0 and then 12.
      end = source_[begin] == '0' ? digits_end(
                                        begin, [](char c) { return c == '0'; }, false)
                                  : digits_end(begin, is_digit, false);
    }
    const std::string text = without_underscores(start, end);
    at_ = end;
    int64_t integer = 0;
    const auto result = std::from_chars(text.data(), text.data() + text.size(), integer, base);
    if (result.ec != std::errc()) fail_here("integer out of range");
    add(TokenKind::kInteger).integer = integer;
  }

  std::string without_underscores(size_t begin, size_t end) const {
    std::string text = source_.substr(begin, end - begin);
    std::erase(text, '_');
    return text;
  }

  bool read_string(char quote) {
    size_t end = at_ + 1;
    while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
    if (end >= source_.size()) return false;
    const std::string_view raw = std::string_view(source_).substr(at_ + 1, end - at_ - 1);
    add(TokenKind::kString, unescape(raw));
    advance(end + 1 - at_);
    return true;
  }

  // Python's "unicode-escape" decoding.
  std::string unescape(std::string_view raw) const {
    std::string out;
    for (size_t i = 0; i < raw.size();) {
      if (raw[i] != '\\') {
        out.push_back(raw[i++]);
        continue;
      }
      if (i + 1 >= raw.size()) fail_here("\\ at end of string");
      const char c = raw[i + 1];
      i += 2;
      static constexpr std::string_view kSimple = "\\'\"abfnrtv";
      static constexpr std::string_view kSimpleValues = "\\'\"\a\b\f\n\r\t\v";
      const size_t simple = kSimple.find(c);
      if (simple != std::string_view::npos) {
        out.push_back(kSimpleValues[simple]);
      } else if (c == '\n') {
        continue;
      } else if (is_octal(c)) {
        uint32_t code = 0;
        --i;
        for (int n = 0; n < 3 && i < raw.size() && is_octal(raw[i]); ++n)
          code = code * 8 + static_cast<uint32_t>(raw[i++] - '0');
        append_utf8(out, code);
      } else if (c == 'x' || c == 'u' || c == 'U') {
        const size_t n_digits = c == 'x' ? 2 : c == 'u' ? 4 : 8;
        uint32_t code = 0;
        const std::string_view digits = raw.substr(i, n_digits);
        const auto result = std::from_chars(digits.data(), digits.data() + digits.size(), code, 16);
        if (digits.size() != n_digits || result.ptr != digits.data() + digits.size()) {
          fail_here(c == 'x' ? "truncated \\xXX escape" : "truncated \\uXXXX escape");
        }
        if (code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) fail_here("illegal Unicode character");
        append_utf8(out, code);
        i += n_digits;
      } else if (c == 'N') {
        fail_here("characters by name (\\N) are not supported");
      } else if (static_cast<unsigned char>(c) >= 0x80) {
        // Jinja first turns the character itself into an escape, whose backslash the one before then takes.
        const Utf8Char character = decode_utf8(raw, i - 1);
        i += static_cast<size_t>(character.n_bytes) - 1;
        const auto code = static_cast<uint32_t>(character.code_point);
        out.append(code < 0x100     ? fmt::format("\\x{:02x}", code)
                   : code < 0x10000 ? fmt::format("\\u{:04x}", code)
                                    : fmt::format("\\U{:08x}", code));
      } else {
        out.push_back('\\');
        out.push_back(c);
      }
    }
    return out;
  }

  void read_operator(std::vector<char>& open_brackets) {
    static constexpr std::array<std::string_view, 26> kOperators = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/",
                                                                    "*",  "%",  "~",  "[",  "]",  "(",  ")", "{", "}",
                                                                    ">",  "<",  "=",  ".",  ":",  "|",  ",", ";"};
    for (const std::string_view text : kOperators) {
      if (!looking_at(text)) continue;
      const char c = text[0];
      if (c == '(' || c == '[' || c == '{') {
        open_brackets.push_back(c == '(' ? ')' : c == '[' ? ']' : '}');
      } else if (c == ')' || c == ']' || c == '}') {
        if (open_brackets.empty()) fail_here(fmt::format("unexpected '{}'", c));
        if (open_brackets.back() != c) {
          fail_here(fmt::format("unexpected '{}', expected '{}'", c, open_brackets.back()));
        }
        open_brackets.pop_back();
      }
      add(TokenKind::kOperator, std::string(text));
      advance(text.size());
      return;
    }
    const Utf8Char c = decode_utf8(source_, at_);
    fail_here(fmt::format("unexpected char '{}'", source_.substr(at_, static_cast<size_t>(c.n_bytes))));
  }

  std::string_view origin_;
  std::string source_;
  std::vector<Token> tokens_;
  size_t at_ = 0;
  int line_ = 1;
  int end_line_ = 1;           // Line of the last token of a tag.
  bool is_line_start_ = true;  // The text before ends with a newline.
};

}  // namespace

void fail_at(std::string_view origin, int line, std::string_view message) {
  fail(ErrorCode::kTemplate, "[template] {}:{}: {}", origin, line, message);
}

std::string describe(const Token& token) {
  switch (token.kind) {
    case TokenKind::kData:
      return "template data / text";
    case TokenKind::kVariableBegin:
      return "begin of print statement";
    case TokenKind::kVariableEnd:
      return "end of print statement";
    case TokenKind::kBlockBegin:
      return "begin of statement block";
    case TokenKind::kBlockEnd:
      return "end of statement block";
    case TokenKind::kString:
      return "string";
    case TokenKind::kInteger:
      return "integer";
    case TokenKind::kFloat:
      return "float";
    case TokenKind::kName:
    case TokenKind::kOperator:
      return token.text;
    case TokenKind::kEnd:
      return "end of template";
  }
  return {};
}

std::vector<Token> tokenize(std::string_view source, std::string_view origin) { return Lexer(source, origin).run(); }

}  // namespace mobilellm::jinja
