// The % operator and str.format.
#include "chat/jinja/format.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>

#include "base/utf8.h"
#include "chat/jinja/unicode.h"

namespace mobilellm::jinja {
namespace {

// Widths and precisions above this are refused: nothing printable needs them.
constexpr int64_t kMaxWidth = 100'000;
constexpr int kMaxPrecision = 400;
constexpr int kMaxFieldDepth = 2;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// One field: what a format specification says.
struct Spec {
  std::string fill = " ";
  char align = '\0';  // < > = ^
  char sign = '-';    // + - space
  bool is_alternate = false;
  bool has_zero = false;
  int64_t width = 0;
  int64_t precision = -1;
  char grouping = '\0';
  char type = '\0';
};

std::string pad(Runtime& runtime, std::string_view body, const Spec& spec, char default_align, size_t n_prefix) {
  const auto length = static_cast<int64_t>(count_code_points(body));
  if (length >= spec.width) return std::string(body);
  const int64_t missing = spec.width - length;
  runtime.budget().step_bytes(static_cast<size_t>(missing));
  const char align = spec.align != '\0' ? spec.align : default_align;
  const auto repeat = [&](int64_t n) {
    std::string out;
    for (int64_t i = 0; i < n; ++i) out += spec.fill;
    return out;
  };
  switch (align) {
    case '<':
      return std::string(body) + repeat(missing);
    case '^':
      return repeat(missing / 2) + std::string(body) + repeat(missing - missing / 2);
    case '=':
      return std::string(body.substr(0, n_prefix)) + repeat(missing) + std::string(body.substr(n_prefix));
    default:
      return repeat(missing) + std::string(body);
  }
}

std::string group_digits(std::string_view digits, char separator, size_t group) {
  std::string out;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % group == 0) out.push_back(separator);
    out.push_back(digits[i]);
  }
  return out;
}

std::string sign_text(bool is_negative, char sign) {
  if (is_negative) return "-";
  return sign == '+' ? "+" : sign == ' ' ? " " : "";
}

std::string integer_digits(uint64_t magnitude, int base, bool is_upper) {
  char buffer[72];
  const auto result = std::to_chars(buffer, buffer + sizeof(buffer), magnitude, base);
  std::string digits(buffer, result.ptr);
  if (is_upper) digits = to_upper(digits);
  return digits;
}

uint64_t magnitude_of(int64_t value) {
  return value < 0 ? 0 - static_cast<uint64_t>(value) : static_cast<uint64_t>(value);
}

// printf-style text of |value|.
std::string float_digits(double magnitude, int64_t precision, char type, bool is_alternate) {
  if (std::isnan(magnitude) || std::isinf(magnitude)) {
    const char* text = std::isnan(magnitude) ? "nan" : "inf";
    return type >= 'A' && type <= 'Z' ? to_upper(text) : text;
  }
  const std::string format = std::string(is_alternate ? "%#.*" : "%.*") + type;
  char buffer[1024];
  const int n = std::snprintf(buffer, sizeof(buffer), format.c_str(), static_cast<int>(precision), magnitude);
  return std::string(buffer, static_cast<size_t>(std::clamp(n, 0, static_cast<int>(sizeof(buffer)) - 1)));
}

std::string format_float(Runtime& runtime, double value, const Spec& spec) {
  if (spec.precision > kMaxPrecision) runtime.raise("precision too large");
  const double magnitude = std::fabs(value);
  std::string digits;
  if (spec.type == '\0' && spec.precision < 0) {
    digits = float_repr(magnitude);
  } else if (spec.type == '\0') {
    // Like 'g', with at least one digit behind the point.
    digits = float_digits(magnitude, std::max<int64_t>(spec.precision, 1), 'g', false);
    if (digits.find_first_of(".en") == std::string::npos) {
      if (static_cast<int64_t>(digits.size()) >= std::max<int64_t>(spec.precision, 1)) {
        digits = float_digits(magnitude, std::max<int64_t>(spec.precision, 1) - 1, 'e', false);
        const size_t e = digits.find('e');
        std::string mantissa = digits.substr(0, e);
        if (mantissa.find('.') != std::string::npos) {
          while (mantissa.back() == '0') mantissa.pop_back();
          if (mantissa.back() == '.') mantissa.pop_back();
        }
        digits = mantissa + digits.substr(e);
      } else {
        digits += ".0";
      }
    }
  } else if (spec.type == '%') {
    digits = float_digits(magnitude * 100, spec.precision < 0 ? 6 : spec.precision, 'f', spec.is_alternate) + "%";
  } else {
    const char type = spec.type == 'n' ? 'g' : spec.type;
    digits = float_digits(magnitude, spec.precision < 0 ? 6 : spec.precision, type, spec.is_alternate);
  }
  if (spec.grouping != '\0' && !digits.empty() && is_digit(digits[0])) {
    const size_t whole = std::min(digits.find_first_not_of("0123456789"), digits.size());
    digits = group_digits(std::string_view(digits).substr(0, whole), spec.grouping, 3) + digits.substr(whole);
  }
  const std::string sign = sign_text(std::signbit(value) && !std::isnan(value), spec.sign);
  return pad(runtime, sign + digits, spec, '>', sign.size());
}

std::string format_integer(Runtime& runtime, int64_t value, const Spec& spec) {
  if (spec.precision >= 0) runtime.raise("Precision not allowed in integer format specifier");
  std::string digits;
  std::string prefix;
  switch (spec.type) {
    case 'b':
      digits = integer_digits(magnitude_of(value), 2, false);
      prefix = "0b";
      break;
    case 'o':
      digits = integer_digits(magnitude_of(value), 8, false);
      prefix = "0o";
      break;
    case 'x':
    case 'X':
      digits = integer_digits(magnitude_of(value), 16, spec.type == 'X');
      prefix = spec.type == 'X' ? "0X" : "0x";
      break;
    case 'c': {
      if (value < 0 || value > 0x10FFFF || (value >= 0xD800 && value < 0xE000)) {
        runtime.raise("%c arg not in range(0x110000)");
      }
      std::string text;
      append_utf8(text, static_cast<char32_t>(value));
      return pad(runtime, text, spec, '>', 0);
    }
    default:
      digits = integer_digits(magnitude_of(value), 10, false);
  }
  if (spec.grouping != '\0') digits = group_digits(digits, spec.grouping, prefix.empty() ? 3 : 4);
  const std::string sign = sign_text(value < 0, spec.sign);
  const std::string lead = sign + (spec.is_alternate ? prefix : "");
  return pad(runtime, lead + digits, spec, '>', lead.size());
}

std::string truncate(std::string_view text, int64_t precision) {
  if (precision < 0) return std::string(text);
  size_t at = 0;
  for (int64_t i = 0; i < precision && at < text.size(); ++i) at += static_cast<size_t>(decode_utf8(text, at).n_bytes);
  return std::string(text.substr(0, at));
}

int64_t read_number(Runtime& runtime, std::string_view text, size_t& at) {
  int64_t value = 0;
  while (at < text.size() && is_digit(text[at])) {
    value = value * 10 + (text[at++] - '0');
    if (value > kMaxWidth) runtime.raise("width or precision too large");
  }
  return value;
}

Spec parse_spec(Runtime& runtime, std::string_view text) {
  Spec spec;
  size_t at = 0;
  const auto is_align = [](char c) { return c == '<' || c == '>' || c == '=' || c == '^'; };
  if (!text.empty()) {
    const auto n = static_cast<size_t>(decode_utf8(text, 0).n_bytes);
    if (n < text.size() && is_align(text[n])) {
      spec.fill = std::string(text.substr(0, n));
      spec.align = text[n];
      at = n + 1;
    } else if (is_align(text[0])) {
      spec.align = text[0];
      at = 1;
    }
  }
  const auto peek = [&] { return at < text.size() ? text[at] : '\0'; };
  if (peek() == '+' || peek() == '-' || peek() == ' ') spec.sign = text[at++];
  if (peek() == '#') {
    spec.is_alternate = true;
    ++at;
  }
  if (peek() == '0') {
    spec.has_zero = true;
    if (spec.align == '\0') {
      spec.fill = "0";
      spec.align = '=';
    }
    ++at;
  }
  spec.width = read_number(runtime, text, at);
  if (peek() == ',' || peek() == '_') spec.grouping = text[at++];
  if (peek() == '.') {
    ++at;
    if (!is_digit(peek())) runtime.raise("Format specifier missing precision");
    spec.precision = read_number(runtime, text, at);
  }
  if (at < text.size()) spec.type = text[at++];
  if (at != text.size()) runtime.raise("Invalid format specifier '{}'", text);
  return spec;
}

// format(value, spec).
std::string format_value(Runtime& runtime, const Value& value, std::string_view spec_text) {
  if (spec_text.empty()) return runtime.to_str(value);
  const bool is_plain_number = value.is_number();
  if (!is_plain_number && !value.is_string()) {
    runtime.raise("unsupported format string passed to {}.__format__", type_name(value));
  }
  Spec spec = parse_spec(runtime, spec_text);
  const auto bad_type = [&]() {
    runtime.raise("Unknown format code '{}' for object of type '{}'", spec.type, type_name(value));
  };
  if (value.is_string()) {
    if (spec.type != '\0' && spec.type != 's') bad_type();
    if (spec.sign != '-' || spec.grouping != '\0' || spec.is_alternate)
      runtime.raise("format option not allowed for str");
    if (spec.align == '=') {
      if (!spec.has_zero) runtime.raise("'=' alignment not allowed in string format specifier");
      spec.align = '<';
    }
    return pad(runtime, truncate(value.view(), spec.precision), spec, '<', 0);
  }
  static constexpr std::string_view kFloatTypes = "eEfFgG%";
  if (value.is(Type::kFloat)) {
    if (spec.type != '\0' && spec.type != 'n' && kFloatTypes.find(spec.type) == std::string_view::npos) bad_type();
    return format_float(runtime, value.as_double(), spec);
  }
  if (value.is(Type::kBool) && spec.type == '\0') {
    // bool has no format of its own: it is an int there.
    return format_integer(runtime, value.as_int(), spec);
  }
  if (spec.type != '\0' && kFloatTypes.find(spec.type) != std::string_view::npos) {
    return format_float(runtime, value.as_double(), spec);
  }
  static constexpr std::string_view kIntegerTypes = "bcdoxXn";
  if (spec.type != '\0' && kIntegerTypes.find(spec.type) == std::string_view::npos) bad_type();
  return format_integer(runtime, value.as_int(), spec);
}

std::string ascii_repr(Runtime& runtime, const Value& value) {
  const std::string repr = runtime.to_repr(value);
  std::string out;
  for (size_t at = 0; at < repr.size();) {
    const Utf8Char c = decode_utf8(repr, at);
    const auto code = static_cast<uint32_t>(c.code_point);
    out += code < 0x80      ? std::string(1, static_cast<char>(code))
           : code < 0x100   ? fmt::format("\\x{:02x}", code)
           : code < 0x10000 ? fmt::format("\\u{:04x}", code)
                            : fmt::format("\\U{:08x}", code);
    at += static_cast<size_t>(c.n_bytes);
  }
  return out;
}

// str.format over one text, with its automatic numbering.
class BraceFormatter {
 public:
  BraceFormatter(Runtime& runtime, const Args& args, bool is_safe)
      : runtime_(runtime), args_(args), is_safe_(is_safe) {}

  std::string run(std::string_view format, int depth = 0) {
    if (depth > kMaxFieldDepth) runtime_.raise("Max string recursion exceeded");
    std::string out;
    for (size_t at = 0; at < format.size();) {
      runtime_.budget().check_text(out.size());
      const char c = format[at];
      if (c != '{' && c != '}') {
        const size_t end = std::min(format.find_first_of("{}", at), format.size());
        out += format.substr(at, end - at);
        at = end;
      } else if (at + 1 < format.size() && format[at + 1] == c) {
        out.push_back(c);
        at += 2;
      } else if (c == '}') {
        runtime_.raise("Single '}}' encountered in format string");
      } else {
        out += read_field(format, at, depth);
      }
    }
    return out;
  }

 private:
  std::string read_field(std::string_view format, size_t& at, int depth) {
    runtime_.budget().step(4);
    size_t end = at + 1;
    int open = 1;
    while (end < format.size()) {
      if (format[end] == '{') ++open;
      if (format[end] == '}' && --open == 0) break;
      ++end;
    }
    if (end >= format.size()) runtime_.raise("expected '}}' before end of string");
    const std::string_view field = format.substr(at + 1, end - at - 1);
    at = end + 1;
    size_t name_end = 0;
    bool is_in_brackets = false;
    while (name_end < field.size()) {
      const char c = field[name_end];
      if (c == '[') is_in_brackets = true;
      if (c == ']') is_in_brackets = false;
      if (!is_in_brackets && (c == ':' || c == '!')) break;
      ++name_end;
    }
    const std::string_view name = field.substr(0, name_end);
    std::string_view rest = field.substr(name_end);
    char conversion = '\0';
    if (rest.starts_with('!')) {
      if (rest.size() < 2) runtime_.raise("end of string while looking for conversion specifier");
      conversion = rest[1];
      rest = rest.substr(2);
      if (!rest.empty() && rest[0] != ':') runtime_.raise("expected ':' after conversion specifier");
    }
    if (rest.starts_with(':')) rest = rest.substr(1);
    Value value = resolve(name);
    if (conversion == 'r') {
      value = runtime_.text(runtime_.to_repr(value));
    } else if (conversion == 's') {
      value = runtime_.text(runtime_.to_str(value));
    } else if (conversion == 'a') {
      value = runtime_.text(ascii_repr(runtime_, value));
    } else if (conversion != '\0') {
      runtime_.raise("Unknown conversion specifier {}", conversion);
    }
    const std::string spec =
        rest.find_first_of("{}") == std::string_view::npos ? std::string(rest) : run(rest, depth + 1);
    std::string text = format_value(runtime_, value, spec);
    if (!is_safe_ || (value.is_string() && value.text().is_safe())) return text;
    std::string escaped;
    append_escaped(escaped, text);
    return escaped;
  }

  Value positional(size_t index) {
    if (index >= args_.positional.size()) {
      runtime_.raise("Replacement index {} out of range for positional args tuple", index);
    }
    return args_.positional[index];
  }

  // "name.attribute[key]" to its value.
  Value resolve(std::string_view name) {
    const size_t first_end = std::min(name.find_first_of(".["), name.size());
    const std::string_view first = name.substr(0, first_end);
    Value value;
    if (first.empty()) {
      if (is_manual_) runtime_.raise("cannot switch from manual field specification to automatic field numbering");
      is_automatic_ = true;
      value = positional(n_automatic_++);
    } else if (std::all_of(first.begin(), first.end(), is_digit)) {
      if (is_automatic_) runtime_.raise("cannot switch from automatic field numbering to manual field specification");
      is_manual_ = true;
      size_t at = 0;
      value = positional(static_cast<size_t>(read_number(runtime_, first, at)));
    } else {
      for (const auto& [key, argument] : args_.named) {
        if (key == first) value = argument;
      }
      if (value.is_missing()) runtime_.raise("KeyError: '{}'", first);
    }
    std::string_view rest = name.substr(first_end);
    while (!rest.empty()) {
      if (rest[0] == '.') {
        const size_t end = std::min(rest.find_first_of(".[", 1), rest.size());
        if (end == 1) runtime_.raise("Empty attribute in format string");
        value = runtime_.attribute(value, rest.substr(1, end - 1));
        rest = rest.substr(end);
      } else if (rest[0] == '[') {
        const size_t close = rest.find(']');
        if (close == std::string_view::npos) runtime_.raise("Missing ']' in format string");
        const std::string_view key = rest.substr(1, close - 1);
        if (key.empty()) runtime_.raise("Empty attribute in format string");
        size_t at = 0;
        const bool is_index = std::all_of(key.begin(), key.end(), is_digit);
        value =
            runtime_.item(value, is_index ? Value(read_number(runtime_, key, at)) : runtime_.text(std::string(key)));
        rest = rest.substr(close + 1);
      } else {
        runtime_.raise("Only '.' or '[' may follow ']' in format field specifier");
      }
    }
    return value;
  }

  Runtime& runtime_;
  const Args& args_;
  bool is_safe_;
  size_t n_automatic_ = 0;
  bool is_automatic_ = false;
  bool is_manual_ = false;
};

// The % operator over one text.
class PercentFormatter {
 public:
  PercentFormatter(Runtime& runtime, const Value& arguments, bool is_safe)
      : runtime_(runtime), arguments_(arguments), is_safe_(is_safe) {
    if (arguments.is(Type::kTuple)) {
      values_ = arguments.items();
    } else {
      values_.push_back(arguments);
    }
  }

  std::string run(std::string_view format) {
    std::string out;
    for (size_t at = 0; at < format.size();) {
      runtime_.budget().check_text(out.size());
      if (format[at] != '%') {
        const size_t end = std::min(format.find('%', at), format.size());
        out += format.substr(at, end - at);
        at = end;
        continue;
      }
      ++at;
      out += read_field(format, at);
    }
    // What can be subscripted counts as a mapping, of which not all is used.
    const bool is_mapping = arguments_.is(Type::kDict) || arguments_.is(Type::kList) || arguments_.is(Type::kRange) ||
                            arguments_.is_undefined();
    if (!used_mapping_ && n_used_ < values_.size() && !is_mapping) {
      runtime_.raise("not all arguments converted during string formatting");
    }
    return out;
  }

 private:
  Value take() {
    if (n_used_ >= values_.size()) runtime_.raise("not enough arguments for format string");
    return values_[n_used_++];
  }

  int64_t take_width() {
    const Value value = take();
    if (!value.is_integral()) runtime_.raise("* wants int");
    if (std::abs(value.as_int()) > kMaxWidth) runtime_.raise("width or precision too large");
    return value.as_int();
  }

  std::string read_field(std::string_view format, size_t& at) {
    runtime_.budget().step(4);
    Spec spec;
    Value value;
    if (at < format.size() && format[at] == '(') {
      int open = 1;
      size_t end = at + 1;
      while (end < format.size() && open > 0) {
        if (format[end] == '(') ++open;
        if (format[end] == ')') --open;
        ++end;
      }
      if (open > 0) runtime_.raise("incomplete format key");
      if (!arguments_.is(Type::kDict)) runtime_.raise("format requires a mapping");
      const std::string_view key = format.substr(at + 1, end - at - 2);
      const Value* found = arguments_.dict().find(key);
      if (found == nullptr) runtime_.raise("KeyError: '{}'", key);
      value = *found;
      used_mapping_ = true;
      at = end;
    }
    bool is_left = false;
    for (; at < format.size(); ++at) {
      if (format[at] == '-') {
        is_left = true;
      } else if (format[at] == '+') {
        spec.sign = '+';
      } else if (format[at] == ' ') {
        if (spec.sign != '+') spec.sign = ' ';
      } else if (format[at] == '#') {
        spec.is_alternate = true;
      } else if (format[at] == '0') {
        spec.has_zero = true;
      } else {
        break;
      }
    }
    if (at < format.size() && format[at] == '*') {
      spec.width = take_width();
      if (spec.width < 0) {
        is_left = true;
        spec.width = -spec.width;
      }
      ++at;
    } else {
      spec.width = read_number(runtime_, format, at);
    }
    if (at < format.size() && format[at] == '.') {
      ++at;
      if (at < format.size() && format[at] == '*') {
        spec.precision = std::max<int64_t>(take_width(), 0);
        ++at;
      } else {
        spec.precision = read_number(runtime_, format, at);
      }
    }
    while (at < format.size() && (format[at] == 'l' || format[at] == 'h' || format[at] == 'L')) ++at;
    if (at >= format.size()) runtime_.raise("incomplete format");
    spec.type = format[at++];
    if (spec.type == '%') return "%";
    if (value.is_missing()) value = take();
    spec.align = is_left ? '<' : '\0';
    return convert(value, spec);
  }

  std::string convert(const Value& value, Spec spec) {
    switch (spec.type) {
      case 's':
      case 'r':
      case 'a': {
        std::string text = spec.type == 's'   ? runtime_.to_str(value)
                           : spec.type == 'r' ? runtime_.to_repr(value)
                                              : ascii_repr(runtime_, value);
        if (is_safe_ && !(value.is_string() && value.text().is_safe())) {
          std::string escaped;
          append_escaped(escaped, text);
          text = std::move(escaped);
        }
        return pad(runtime_, truncate(text, spec.precision), spec, '>', 0);
      }
      case 'd':
      case 'i':
      case 'u':
      case 'x':
      case 'X':
      case 'o':
        return convert_integer(value, spec);
      case 'e':
      case 'E':
      case 'f':
      case 'F':
      case 'g':
      case 'G':
        if (value.is_undefined()) runtime_.raise_undefined(value);
        if (!value.is_number()) runtime_.raise("must be real number, not {}", type_name(value));
        if (spec.has_zero && spec.align == '\0') {
          spec.fill = "0";
          spec.align = '=';
        }
        return format_float(runtime_, value.as_double(), spec);
      case 'c': {
        if (value.is_integral()) {
          spec.precision = -1;
          return format_integer(runtime_, value.as_int(), spec);
        }
        if (!value.is_string() || value.text().length() != 1) runtime_.raise("%c requires int or char");
        return pad(runtime_, value.view(), spec, '>', 0);
      }
      default:
        runtime_.raise("unsupported format character '{}'", spec.type);
    }
  }

  std::string convert_integer(const Value& value, Spec spec) {
    if (value.is_undefined()) runtime_.raise_undefined(value);
    const bool is_decimal = spec.type == 'd' || spec.type == 'i' || spec.type == 'u';
    if (!value.is_number() || (!is_decimal && !value.is_integral())) {
      runtime_.raise("%{} format: {} is required, not {}", spec.type, is_decimal ? "a real number" : "an integer",
                     type_name(value));
    }
    int64_t number = 0;
    if (value.is_integral()) {
      number = value.as_int();
    } else {
      if (!(std::fabs(value.as_double()) < 9.2e18)) runtime_.raise("cannot convert float to integer");
      number = static_cast<int64_t>(value.as_double());
    }
    const int base = is_decimal ? 10 : spec.type == 'o' ? 8 : 16;
    std::string digits = integer_digits(magnitude_of(number), base, spec.type == 'X');
    if (spec.precision > static_cast<int64_t>(digits.size())) {
      digits.insert(0, static_cast<size_t>(spec.precision) - digits.size(), '0');
    }
    std::string lead = sign_text(number < 0, spec.sign);
    if (spec.is_alternate && !is_decimal) lead += spec.type == 'o' ? "0o" : spec.type == 'x' ? "0x" : "0X";
    if (spec.has_zero && spec.align == '\0') {
      spec.fill = "0";
      spec.align = '=';
    }
    return pad(runtime_, lead + digits, spec, '>', lead.size());
  }

  Runtime& runtime_;
  const Value& arguments_;
  bool is_safe_;
  std::vector<Value> values_;
  size_t n_used_ = 0;
  bool used_mapping_ = false;
};

}  // namespace

std::string format_percent(Runtime& runtime, const Value& format, const Value& arguments) {
  runtime.budget().step_bytes(format.view().size());
  return PercentFormatter(runtime, arguments, format.text().is_safe()).run(format.view());
}

std::string format_braces(Runtime& runtime, const Value& format, const Args& args) {
  runtime.budget().step_bytes(format.view().size());
  return BraceFormatter(runtime, args, format.text().is_safe()).run(format.view());
}

void append_escaped(std::string& out, std::string_view text) {
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '\'':
        out += "&#39;";
        break;
      case '"':
        out += "&#34;";
        break;
      default:
        out.push_back(c);
    }
  }
}

}  // namespace mobilellm::jinja
