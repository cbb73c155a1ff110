// Methods of Python's str.
#include <algorithm>

#include "base/utf8.h"
#include "chat/jinja/builtins.h"
#include "chat/jinja/format.h"
#include "chat/jinja/text_layout.h"
#include "chat/jinja/text_search.h"
#include "chat/jinja/unicode.h"

namespace mobilellm::jinja {
namespace {

// A part of the text, which is marked safe when the whole is.
Value part_of(Runtime& runtime, const Value& self, std::string_view part) {
  return runtime.text(std::string(part), self.text().is_safe());
}

Value like(Runtime& runtime, const Value& self, std::string text) {
  runtime.budget().step_bytes(text.size());
  return runtime.text(std::move(text), self.text().is_safe());
}

template <std::string (*convert)(std::string_view)>
Value converted(Runtime& runtime, const Value& self, Args& args) {
  const Parameters none(runtime, "str method", args, {});
  return like(runtime, self, convert(self.view()));
}

Value strip(Runtime& runtime, const Value& self, Args& args, bool at_left, bool at_right) {
  const Parameters parameters(runtime, "strip", args, {"chars"});
  std::string_view text = self.view();
  if (!parameters.has(0) || parameters[0].is_none()) {
    if (at_left) text = strip_left(text);
    if (at_right) text = strip_right(text);
  } else {
    const std::string_view chars = parameters.string(0, "");
    runtime.budget().step_bytes(chars.size());
    runtime.budget().step(1 + text.size() * std::max<size_t>(chars.size() / 16, 1) / 32);
    if (at_left) text = strip_left(text, chars);
    if (at_right) text = strip_right(text, chars);
  }
  return part_of(runtime, self, text);
}

Value method_strip(Runtime& runtime, const Value& self, Args& args) { return strip(runtime, self, args, true, true); }
Value method_lstrip(Runtime& runtime, const Value& self, Args& args) { return strip(runtime, self, args, true, false); }
Value method_rstrip(Runtime& runtime, const Value& self, Args& args) { return strip(runtime, self, args, false, true); }

Value split(Runtime& runtime, const Value& self, Args& args, bool is_from_right) {
  const Parameters parameters(runtime, "split", args, {"sep", "maxsplit"});
  int64_t n_left = parameters.integer(1, -1);
  if (n_left < 0) n_left = INT64_MAX;
  const std::string_view text = self.view();
  std::vector<Value> parts;
  const auto add = [&](std::string_view part) {
    runtime.budget().step(4);
    parts.push_back(part_of(runtime, self, part));
  };
  if (!parameters.has(0) || parameters[0].is_none()) {
    std::string_view rest = is_from_right ? strip_right(text) : strip_left(text);
    while (!rest.empty()) {
      if (n_left-- == 0) {
        add(is_from_right ? strip_right(rest) : strip_right(rest) == rest ? rest : rest);
        break;
      }
      if (is_from_right) {
        size_t begin = rest.size();
        while (begin > 0) {
          size_t at = begin - 1;
          while (at > 0 && (static_cast<unsigned char>(rest[at]) & 0xC0) == 0x80) --at;
          if (is_space(decode_utf8(rest, at).code_point)) break;
          begin = at;
        }
        add(rest.substr(begin));
        rest = strip_right(rest.substr(0, begin));
      } else {
        size_t end = 0;
        while (end < rest.size()) {
          const Utf8Char c = decode_utf8(rest, end);
          if (is_space(c.code_point)) break;
          end += static_cast<size_t>(c.n_bytes);
        }
        add(rest.substr(0, end));
        rest = strip_left(rest.substr(end));
      }
    }
  } else {
    const std::string_view separator = parameters.string(0, "");
    if (separator.empty()) runtime.raise("empty separator");
    const TextSearch search(runtime.budget(), text, separator, is_from_right);
    size_t begin = 0;
    size_t end = text.size();
    while (true) {
      const size_t at = n_left-- == 0 ? std::string_view::npos : search.find(begin, end);
      if (at == std::string_view::npos) {
        add(text.substr(begin, end - begin));
        break;
      }
      const size_t behind = at + separator.size();
      if (is_from_right) {
        add(text.substr(behind, end - behind));
        end = at;
      } else {
        add(text.substr(begin, at - begin));
        begin = behind;
      }
    }
  }
  if (is_from_right) std::reverse(parts.begin(), parts.end());
  return runtime.list(std::move(parts));
}

Value method_split(Runtime& runtime, const Value& self, Args& args) { return split(runtime, self, args, false); }
Value method_rsplit(Runtime& runtime, const Value& self, Args& args) { return split(runtime, self, args, true); }

Value method_splitlines(Runtime& runtime, const Value& self, Args& args) {
  const Parameters parameters(runtime, "splitlines", args, {"keepends"});
  std::vector<Value> lines;
  for (const std::string_view line : split_lines(self.view(), parameters.boolean(0, false))) {
    runtime.budget().step(4);
    lines.push_back(part_of(runtime, self, line));
  }
  return runtime.list(std::move(lines));
}

Value partition(Runtime& runtime, const Value& self, Args& args, bool is_from_right) {
  const Parameters parameters(runtime, "partition", args, {"sep"}, 1);
  const std::string_view separator = parameters.string(0, "");
  if (separator.empty()) runtime.raise("empty separator");
  const std::string_view text = self.view();
  const size_t at = TextSearch(runtime.budget(), text, separator, is_from_right).find(0, text.size());
  std::string_view before = is_from_right ? std::string_view() : text;
  std::string_view middle;
  std::string_view after = is_from_right ? text : std::string_view();
  if (at != std::string_view::npos) {
    before = text.substr(0, at);
    middle = separator;
    after = text.substr(at + separator.size());
  }
  return runtime.tuple({part_of(runtime, self, before), part_of(runtime, self, middle), part_of(runtime, self, after)});
}

Value method_partition(Runtime& runtime, const Value& self, Args& args) {
  return partition(runtime, self, args, false);
}
Value method_rpartition(Runtime& runtime, const Value& self, Args& args) {
  return partition(runtime, self, args, true);
}

Value method_replace(Runtime& runtime, const Value& self, Args& args) {
  const Parameters parameters(runtime, "replace", args, {"old", "new", "count"}, 2);
  for (const size_t i : {size_t{0}, size_t{1}}) {
    if (!parameters[i].is_string())
      runtime.raise("replace() argument {} must be str, not {}", i + 1, type_name(parameters[i]));
  }
  const std::string_view text = self.view();
  const std::string_view old = parameters.string(0, "");
  std::string replacement(parameters.string(1, ""));
  runtime.budget().step_bytes(replacement.size());
  if (self.text().is_safe() && !parameters[1].text().is_safe()) {
    std::string escaped;
    append_escaped(escaped, replacement);
    replacement = std::move(escaped);
  }
  int64_t n_left = parameters.integer(2, -1);
  if (n_left < 0) n_left = INT64_MAX;
  std::string out;
  size_t at = 0;
  if (old.empty()) {
    // Goes before each character and at the end.
    while (n_left-- > 0) {
      runtime.budget().check_text(out.size() + replacement.size());
      runtime.budget().step_bytes(replacement.size());
      out += replacement;
      if (at >= text.size()) break;
      const auto n = static_cast<size_t>(decode_utf8(text, at).n_bytes);
      out += text.substr(at, n);
      at += n;
    }
    out += text.substr(std::min(at, text.size()));
    return like(runtime, self, std::move(out));
  }
  const TextSearch search(runtime.budget(), text, old);
  while (n_left-- > 0) {
    const size_t found = search.find(at, text.size());
    if (found == std::string_view::npos) break;
    runtime.budget().check_text(out.size() + (found - at) + replacement.size());
    runtime.budget().step_bytes(replacement.size());
    out += text.substr(at, found - at);
    out += replacement;
    at = found + old.size();
  }
  out += text.substr(at);
  return like(runtime, self, std::move(out));
}

// The part of the text that optional start and end arguments select, as [begin, end) bytes; false when it is empty
// because start lies behind the end.
bool select_range(const Value& self, const Parameters& parameters, size_t first, size_t& begin, size_t& end) {
  const auto length = static_cast<int64_t>(self.text().length());
  const auto clamp = [&](size_t index, int64_t default_value) {
    if (!parameters.has(index) || parameters[index].is_none()) return default_value;
    const int64_t value = parameters.integer(index, 0);
    return value < 0 ? std::max<int64_t>(value + length, 0) : value;
  };
  const int64_t start = clamp(first, 0);
  const int64_t stop = std::min(clamp(first + 1, length), length);
  if (start > stop || start > length) return false;
  begin = self.text().byte_offset(static_cast<size_t>(start));
  end = self.text().byte_offset(static_cast<size_t>(stop));
  return true;
}

int64_t find_index(Runtime& runtime, const Value& self, Args& args, bool is_from_right) {
  const Parameters parameters(runtime, "find", args, {"sub", "start", "end"}, 1);
  const std::string_view sub = parameters.string(0, "");
  if (!parameters[0].is_string()) runtime.raise("must be str, not {}", type_name(parameters[0]));
  size_t begin = 0;
  size_t end = 0;
  if (!select_range(self, parameters, 1, begin, end)) return -1;
  const std::string_view part = self.view().substr(begin, end - begin);
  const size_t at = TextSearch(runtime.budget(), part, sub, is_from_right).find(0, part.size());
  if (at == std::string_view::npos) return -1;
  return static_cast<int64_t>(count_code_points(self.view().substr(0, begin + at)));
}

template <bool is_from_right>
Value method_find(Runtime& runtime, const Value& self, Args& args) {
  return Value(find_index(runtime, self, args, is_from_right));
}

template <bool is_from_right>
Value method_index(Runtime& runtime, const Value& self, Args& args) {
  const int64_t index = find_index(runtime, self, args, is_from_right);
  if (index < 0) runtime.raise("substring not found");
  return Value(index);
}

Value method_count(Runtime& runtime, const Value& self, Args& args) {
  const Parameters parameters(runtime, "count", args, {"sub", "start", "end"}, 1);
  if (!parameters[0].is_string()) runtime.raise("must be str, not {}", type_name(parameters[0]));
  const std::string_view sub = parameters.string(0, "");
  size_t begin = 0;
  size_t end = 0;
  if (!select_range(self, parameters, 1, begin, end)) return Value(0);
  const std::string_view part = self.view().substr(begin, end - begin);
  if (sub.empty()) return Value(static_cast<int64_t>(count_code_points(part)) + 1);
  const TextSearch search(runtime.budget(), part, sub);
  int64_t n = 0;
  for (size_t at = search.find(0, part.size()); at != std::string_view::npos;
       at = search.find(at + sub.size(), part.size())) {
    ++n;
  }
  return Value(n);
}

Value has_affix(Runtime& runtime, const Value& self, Args& args, bool is_prefix) {
  const Parameters parameters(runtime, is_prefix ? "startswith" : "endswith", args, {"prefix", "start", "end"}, 1);
  size_t begin = 0;
  size_t end = 0;
  if (parameters[0].is_undefined()) runtime.raise_undefined(parameters[0]);
  const bool is_tuple = parameters[0].is(Type::kTuple);
  if (is_tuple) runtime.budget().step(parameters[0].items().size());
  const std::vector<Value> affixes = is_tuple ? parameters[0].items() : std::vector<Value>{parameters[0]};
  const bool is_range = select_range(self, parameters, 1, begin, end);
  const std::string_view part = is_range ? self.view().substr(begin, end - begin) : std::string_view();
  for (const Value& affix : affixes) {
    if (!affix.is_string()) {
      runtime.raise("{} first arg must be str or a tuple of str, not {}", is_prefix ? "startswith" : "endswith",
                    type_name(affix));
    }
    if (is_range && (is_prefix ? part.starts_with(affix.view()) : part.ends_with(affix.view()))) return Value(true);
  }
  return Value(false);
}

Value method_startswith(Runtime& runtime, const Value& self, Args& args) {
  return has_affix(runtime, self, args, true);
}
Value method_endswith(Runtime& runtime, const Value& self, Args& args) { return has_affix(runtime, self, args, false); }

Value method_removeprefix(Runtime& runtime, const Value& self, Args& args) {
  const Parameters parameters(runtime, "removeprefix", args, {"prefix"}, 1);
  std::string_view text = self.view();
  const std::string_view prefix = parameters.string(0, "");
  if (text.starts_with(prefix)) text = text.substr(prefix.size());
  return part_of(runtime, self, text);
}

Value method_removesuffix(Runtime& runtime, const Value& self, Args& args) {
  const Parameters parameters(runtime, "removesuffix", args, {"suffix"}, 1);
  std::string_view text = self.view();
  const std::string_view suffix = parameters.string(0, "");
  if (text.ends_with(suffix)) text = text.substr(0, text.size() - suffix.size());
  return part_of(runtime, self, text);
}

Value method_join(Runtime& runtime, const Value& self, Args& args) {
  const Parameters parameters(runtime, "join", args, {"iterable"}, 1);
  const Iterator::Next next = runtime.iterate(parameters[0]);
  std::string out;
  Value item;
  bool is_first = true;
  while (next(item)) {
    runtime.budget().step(2);
    if (!item.is_string()) runtime.raise("sequence item: expected str instance, {} found", type_name(item));
    runtime.budget().check_text(out.size() + self.view().size() + item.view().size());
    runtime.budget().step_bytes(self.view().size() + item.view().size());
    if (!is_first) out += self.view();
    is_first = false;
    if (self.text().is_safe() && !item.text().is_safe()) {
      append_escaped(out, item.view());
    } else {
      out += item.view();
    }
  }
  return like(runtime, self, std::move(out));
}

Value justify(Runtime& runtime, const Value& self, Args& args, char side) {
  const Parameters parameters(runtime, "center", args, {"width", "fillchar"}, 1);
  const int64_t width = parameters.integer(0, 0);
  const std::string fill(parameters.string(1, " "));
  runtime.budget().step_bytes(fill.size());
  if (count_code_points(fill) != 1) runtime.raise("The fill character must be exactly one character long");
  const auto length = static_cast<int64_t>(self.text().length());
  if (width <= length) return self;
  const int64_t n_missing = width - length;
  if (n_missing > static_cast<int64_t>(kMaxOutputBytes / fill.size())) Budget::fail_limit("text too long");
  const int64_t n_left = side == 'l' ? 0 : side == 'r' ? n_missing : n_missing / 2 + (n_missing & width & 1);
  std::string out;
  for (int64_t i = 0; i < n_left; ++i) out += fill;
  out += self.view();
  for (int64_t i = n_left; i < n_missing; ++i) out += fill;
  return like(runtime, self, std::move(out));
}

Value method_center(Runtime& runtime, const Value& self, Args& args) { return justify(runtime, self, args, 'c'); }
Value method_ljust(Runtime& runtime, const Value& self, Args& args) { return justify(runtime, self, args, 'l'); }
Value method_rjust(Runtime& runtime, const Value& self, Args& args) { return justify(runtime, self, args, 'r'); }

Value method_zfill(Runtime& runtime, const Value& self, Args& args) {
  const Parameters parameters(runtime, "zfill", args, {"width"}, 1);
  const int64_t n_missing = parameters.integer(0, 0) - static_cast<int64_t>(self.text().length());
  if (n_missing <= 0) return self;
  runtime.budget().check_text(static_cast<size_t>(n_missing));
  std::string out(self.view());
  const bool has_sign = !out.empty() && (out[0] == '+' || out[0] == '-');
  out.insert(has_sign ? 1 : 0, static_cast<size_t>(n_missing), '0');
  return like(runtime, self, std::move(out));
}

Value method_expandtabs(Runtime& runtime, const Value& self, Args& args) {
  const Parameters parameters(runtime, "expandtabs", args, {"tabsize"});
  const int64_t size = parameters.integer(0, 8);
  if (size > 10'000) Budget::fail_limit("tab too wide");
  std::string out;
  int64_t column = 0;
  for (const char c : self.view()) {
    if (c == '\t') {
      const int64_t n = size > 0 ? size - column % size : 0;
      out.append(static_cast<size_t>(n), ' ');
      column += n;
      runtime.budget().check_text(out.size());
      continue;
    }
    out.push_back(c);
    if ((static_cast<unsigned char>(c) & 0xC0) != 0x80) ++column;
    if (c == '\n' || c == '\r') column = 0;
  }
  return like(runtime, self, std::move(out));
}

Value method_format(Runtime& runtime, const Value& self, Args& args) {
  return like(runtime, self, format_braces(runtime, self, args));
}

Value method_format_map(Runtime& runtime, const Value& self, Args& args) {
  const Parameters parameters(runtime, "format_map", args, {"mapping"}, 1);
  if (!parameters[0].is(Type::kDict)) runtime.raise("format_map() needs a mapping, not {}", type_name(parameters[0]));
  Args named;
  runtime.budget().step(4 * parameters[0].dict().entries().size());
  for (const auto& [key, value] : parameters[0].dict().entries()) {
    if (key.is_string()) named.named.emplace_back(std::string(key.view()), value);
  }
  return like(runtime, self, format_braces(runtime, self, named));
}

Value method_maketrans(Runtime& runtime, const Value&, Args& args) {
  const Parameters parameters(runtime, "maketrans", args, {"x", "y", "z"}, 1);
  Value table = make<Dict>(Type::kDict, &runtime.budget());
  Dict& dict = const_cast<Dict&>(table.dict());
  const auto code_of = [&](const Value& character) {
    return Value(static_cast<int64_t>(decode_utf8(character.view(), 0).code_point));
  };
  if (!parameters.has(1)) {
    if (!parameters[0].is(Type::kDict)) runtime.raise("if you give only one argument to maketrans it must be a dict");
    runtime.budget().step(4 * parameters[0].dict().entries().size());
    for (const auto& [key, value] : parameters[0].dict().entries()) {
      if (key.is_string() && key.text().length() != 1)
        runtime.raise("string keys in translate table must be of length 1");
      dict.set(key.is_string() ? code_of(key) : key, value);
    }
    return table;
  }
  if (!parameters[0].is_string() || !parameters[1].is_string()) runtime.raise("maketrans() arguments must be str");
  const std::vector<Value> from = runtime.elements(parameters[0]);
  const std::vector<Value> to = runtime.elements(parameters[1]);
  if (from.size() != to.size()) runtime.raise("the first two maketrans arguments must have equal length");
  for (size_t i = 0; i < from.size(); ++i) dict.set(code_of(from[i]), code_of(to[i]));
  if (parameters.has(2)) {
    for (const Value& character : runtime.elements(parameters[2])) dict.set(code_of(character), Value::none());
  }
  return table;
}

Value method_translate(Runtime& runtime, const Value& self, Args& args) {
  const Parameters parameters(runtime, "translate", args, {"table"}, 1);
  if (!parameters[0].is(Type::kDict)) runtime.raise("translate() needs a dict, not {}", type_name(parameters[0]));
  std::string out;
  const std::string_view text = self.view();
  for (size_t at = 0; at < text.size();) {
    runtime.budget().step();
    runtime.budget().check_text(out.size());
    const Utf8Char c = decode_utf8(text, at);
    const Value* mapped = parameters[0].dict().find(Value(static_cast<int64_t>(c.code_point)));
    if (mapped == nullptr) {
      out += text.substr(at, static_cast<size_t>(c.n_bytes));
    } else if (mapped->is_string()) {
      out += mapped->view();
    } else if (mapped->is_integral()) {
      if (mapped->as_int() < 0 || mapped->as_int() > 0x10FFFF)
        runtime.raise("character mapping must be in range(0x110000)");
      append_utf8(out, static_cast<char32_t>(mapped->as_int()));
    } else if (!mapped->is_none()) {
      runtime.raise("character mapping must return integer, None or str");
    }
    at += static_cast<size_t>(c.n_bytes);
  }
  return like(runtime, self, std::move(out));
}

Value method_encode(Runtime& runtime, const Value&, Args&) { runtime.raise("str.encode: bytes are not supported"); }

// True when the text is not empty and every character fits.
template <bool (*fits)(char32_t)>
Value every(Runtime& runtime, const Value& self, Args& args) {
  const Parameters none(runtime, "str method", args, {});
  const std::string_view text = self.view();
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = decode_utf8(text, at);
    if (!fits(c.code_point)) return Value(false);
    at += static_cast<size_t>(c.n_bytes);
  }
  return Value(!text.empty());
}

bool is_alpha(char32_t c) { return contains(kAlpha, c); }
bool is_decimal(char32_t c) { return contains(kDecimal, c); }
bool is_digit(char32_t c) { return contains(kDigit, c); }
bool is_numeric(char32_t c) { return contains(kNumeric, c); }
bool is_alnum(char32_t c) { return is_alpha(c) || is_numeric(c) || is_digit(c) || is_decimal(c); }
bool is_white(char32_t c) { return is_space(c); }
bool is_printable(char32_t c) { return contains(kPrintable, c); }
bool is_ascii(char32_t c) { return c < 0x80; }

Value method_isprintable(Runtime& runtime, const Value& self, Args& args) {
  return self.view().empty() ? Value(true) : every<is_printable>(runtime, self, args);
}
Value method_isascii(Runtime& runtime, const Value& self, Args& args) {
  return self.view().empty() ? Value(true) : every<is_ascii>(runtime, self, args);
}

Value method_isidentifier(Runtime& runtime, const Value& self, Args& args) {
  const Parameters none(runtime, "isidentifier", args, {});
  const std::string_view text = self.view();
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = decode_utf8(text, at);
    if (!contains(kWord, c.code_point) || (at == 0 && is_decimal(c.code_point))) return Value(false);
    at += static_cast<size_t>(c.n_bytes);
  }
  return Value(!text.empty());
}

// At least one cased character, and none of the other case.
Value has_case(Runtime& runtime, const Value& self, Args& args, bool is_upper) {
  const Parameters none(runtime, "islower", args, {});
  bool is_found = false;
  const std::string_view text = self.view();
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = decode_utf8(text, at);
    if (contains(kTitle, c.code_point) || contains(is_upper ? kLower : kUpper, c.code_point)) return Value(false);
    if (contains(is_upper ? kUpper : kLower, c.code_point)) is_found = true;
    at += static_cast<size_t>(c.n_bytes);
  }
  return Value(is_found);
}

Value method_islower(Runtime& runtime, const Value& self, Args& args) { return has_case(runtime, self, args, false); }
Value method_isupper(Runtime& runtime, const Value& self, Args& args) { return has_case(runtime, self, args, true); }

Value method_istitle(Runtime& runtime, const Value& self, Args& args) {
  const Parameters none(runtime, "istitle", args, {});
  bool is_found = false;
  bool is_after_cased = false;
  const std::string_view text = self.view();
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = decode_utf8(text, at);
    const bool is_upper = contains(kUpper, c.code_point) || contains(kTitle, c.code_point);
    const bool is_lower = contains(kLower, c.code_point);
    if ((is_upper && is_after_cased) || (is_lower && !is_after_cased)) return Value(false);
    is_after_cased = is_upper || is_lower;
    is_found = is_found || is_after_cased;
    at += static_cast<size_t>(c.n_bytes);
  }
  return Value(is_found);
}

// Pays for one pass over the text before the method runs, so that no method can forget to.
template <Callable::Function method>
Value charged(Runtime& runtime, const Value& self, Args& args) {
  runtime.budget().step_bytes(self.view().size());
  return method(runtime, self, args);
}

constexpr NamedFunction<Callable::Function> kMethods[] = {
    {"strip", charged<method_strip>},
    {"split", charged<method_split>},
    {"startswith", charged<method_startswith>},
    {"endswith", charged<method_endswith>},
    {"lstrip", charged<method_lstrip>},
    {"rstrip", charged<method_rstrip>},
    {"replace", charged<method_replace>},
    {"join", charged<method_join>},
    {"upper", charged<converted<to_upper>>},
    {"lower", charged<converted<to_lower>>},
    {"title", charged<converted<to_title>>},
    {"capitalize", charged<converted<to_capitalized>>},
    {"swapcase", charged<converted<to_swapped_case>>},
    {"casefold", charged<converted<to_casefolded>>},
    {"rsplit", charged<method_rsplit>},
    {"splitlines", charged<method_splitlines>},
    {"partition", charged<method_partition>},
    {"rpartition", charged<method_rpartition>},
    {"find", charged<method_find<false>>},
    {"rfind", charged<method_find<true>>},
    {"index", charged<method_index<false>>},
    {"rindex", charged<method_index<true>>},
    {"count", charged<method_count>},
    {"removeprefix", charged<method_removeprefix>},
    {"removesuffix", charged<method_removesuffix>},
    {"center", charged<method_center>},
    {"ljust", charged<method_ljust>},
    {"rjust", charged<method_rjust>},
    {"zfill", charged<method_zfill>},
    {"expandtabs", charged<method_expandtabs>},
    {"format", charged<method_format>},
    {"format_map", charged<method_format_map>},
    {"maketrans", charged<method_maketrans>},
    {"translate", charged<method_translate>},
    {"encode", charged<method_encode>},
    {"isalpha", charged<every<is_alpha>>},
    {"isdigit", charged<every<is_digit>>},
    {"isdecimal", charged<every<is_decimal>>},
    {"isnumeric", charged<every<is_numeric>>},
    {"isalnum", charged<every<is_alnum>>},
    {"isspace", charged<every<is_white>>},
    {"isprintable", charged<method_isprintable>},
    {"isascii", charged<method_isascii>},
    {"isidentifier", charged<method_isidentifier>},
    {"islower", charged<method_islower>},
    {"isupper", charged<method_isupper>},
    {"istitle", charged<method_istitle>},
};

}  // namespace

Callable::Function find_text_method(std::string_view name) { return find_in(kMethods, name); }

}  // namespace mobilellm::jinja
