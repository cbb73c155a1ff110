// Filters on text.
#include <algorithm>

#include "base/utf8.h"
#include "chat/jinja/builtins.h"
#include "chat/jinja/format.h"
#include "chat/jinja/text_layout.h"
#include "chat/jinja/unicode.h"

namespace mobilellm::jinja {
namespace {

// Text of the value, keeping the mark of safe text.
Value soft_text(Runtime& runtime, const Value& value) {
  return value.is_string() ? value : runtime.text(runtime.to_str(value));
}

Value call_method(Runtime& runtime, const Value& text, std::string_view method, Args& args) {
  return find_text_method(method)(runtime, text, args);
}

Value filter_upper(Runtime& runtime, const Value& value, Args& args) {
  const Parameters none(runtime, "upper", args, {});
  return call_method(runtime, soft_text(runtime, value), "upper", args);
}

Value filter_lower(Runtime& runtime, const Value& value, Args& args) {
  const Parameters none(runtime, "lower", args, {});
  return call_method(runtime, soft_text(runtime, value), "lower", args);
}

Value filter_capitalize(Runtime& runtime, const Value& value, Args& args) {
  const Parameters none(runtime, "capitalize", args, {});
  return call_method(runtime, soft_text(runtime, value), "capitalize", args);
}

Value filter_trim(Runtime& runtime, const Value& value, Args& args) {
  const Parameters parameters(runtime, "trim", args, {"chars"});
  Args method_args;
  if (parameters.has(0)) method_args.positional.push_back(parameters[0]);
  return call_method(runtime, soft_text(runtime, value), "strip", method_args);
}

Value filter_center(Runtime& runtime, const Value& value, Args& args) {
  const Parameters parameters(runtime, "center", args, {"width"});
  Args method_args;
  method_args.positional.push_back(Value(parameters.integer(0, 80)));
  return call_method(runtime, soft_text(runtime, value), "center", method_args);
}

// Words begin after white space and after - ( { [ <; the rest of a word becomes lower case.
Value filter_title(Runtime& runtime, const Value& value, Args& args) {
  const Parameters none(runtime, "title", args, {});
  std::string storage;
  const std::string_view text = runtime.to_view(value, storage);
  runtime.budget().step_bytes(text.size());
  const auto is_separator = [](char32_t c) {
    return is_space(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<';
  };
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const Utf8Char first = decode_utf8(text, at);
    const bool is_word = !is_separator(first.code_point);
    size_t end = at;
    while (end < text.size()) {
      const Utf8Char c = decode_utf8(text, end);
      if (is_separator(c.code_point) == is_word) break;
      end += static_cast<size_t>(c.n_bytes);
    }
    const auto n_first = static_cast<size_t>(first.n_bytes);
    append_upper(out, first.code_point);
    out += to_lower(text.substr(at + n_first, end - at - n_first));
    at = end;
  }
  return runtime.text(std::move(out));
}

Value filter_replace(Runtime& runtime, const Value& value, Args& args) {
  const Parameters parameters(runtime, "replace", args, {"old", "new", "count"}, 2);
  Args method_args;
  method_args.positional.push_back(runtime.text(runtime.to_str(parameters[0])));
  method_args.positional.push_back(runtime.text(runtime.to_str(parameters[1])));
  if (parameters.has(2) && !parameters[2].is_none()) method_args.positional.push_back(Value(parameters.integer(2, -1)));
  return call_method(runtime, runtime.text(runtime.to_str(value)), "replace", method_args);
}

Value filter_string(Runtime& runtime, const Value& value, Args& args) {
  const Parameters none(runtime, "string", args, {});
  return soft_text(runtime, value);
}

Value filter_safe(Runtime& runtime, const Value& value, Args& args) {
  const Parameters none(runtime, "safe", args, {});
  return runtime.text(runtime.to_str(value), true);
}

Value filter_forceescape(Runtime& runtime, const Value& value, Args& args) {
  const Parameters none(runtime, "forceescape", args, {});
  std::string storage;
  std::string out;
  append_escaped(out, runtime.to_view(value, storage));
  return runtime.text(std::move(out), true);
}

Value filter_escape(Runtime& runtime, const Value& value, Args& args) {
  if (value.is_string() && value.text().is_safe()) return value;
  return filter_forceescape(runtime, value, args);
}

Value filter_format(Runtime& runtime, const Value& value, Args& args) {
  if (!args.positional.empty() && !args.named.empty()) {
    runtime.raise("can't handle positional and keyword arguments at the same time");
  }
  const Value text = soft_text(runtime, value);
  if (args.named.empty()) {
    return runtime.text(format_percent(runtime, text, runtime.tuple(args.positional)), text.text().is_safe());
  }
  const Value named = make<Dict>(Type::kDict, &runtime.budget());
  for (const auto& [key, argument] : args.named) const_cast<Dict&>(named.dict()).set(runtime.text(key), argument);
  return runtime.text(format_percent(runtime, text, named), text.text().is_safe());
}

Value filter_indent(Runtime& runtime, const Value& value, Args& args) {
  const Parameters parameters(runtime, "indent", args, {"width", "first", "blank"});
  if (value.is_undefined()) runtime.raise_undefined(value);
  if (!value.is_string()) runtime.raise("indent: unsupported operand type '{}'", type_name(value));
  std::string indention(4, ' ');
  if (parameters.has(0) && parameters[0].is_string()) {
    indention = std::string(parameters[0].view());
  } else {
    const int64_t width = std::max<int64_t>(parameters.integer(0, 4), 0);
    if (width > 10'000) Budget::fail_limit("indent too wide");
    indention = std::string(static_cast<size_t>(width), ' ');
  }
  const bool has_blank = parameters.boolean(2, false);
  std::string out = parameters.boolean(1, false) ? indention : "";
  bool is_first = true;
  const std::string with_newline = std::string(value.view()) + "\n";
  for (const std::string_view line : split_lines(with_newline, false)) {
    if (!is_first) {
      out.push_back('\n');
      if (has_blank || !line.empty()) out += indention;
    }
    is_first = false;
    out += line;
    runtime.budget().check_text(out.size());
  }
  return runtime.text(std::move(out), value.text().is_safe());
}

Value filter_truncate(Runtime& runtime, const Value& value, Args& args) {
  const Parameters parameters(runtime, "truncate", args, {"length", "killwords", "end", "leeway"});
  const int64_t length = parameters.integer(0, 255);
  const std::string_view end = parameters.string(2, "...");
  const int64_t leeway = parameters.has(3) && !parameters[3].is_none() ? parameters.integer(3, 5) : 5;
  const auto n_end = static_cast<int64_t>(count_code_points(end));
  if (length < n_end) runtime.raise("expected length >= {}, got {}", n_end, length);
  if (leeway < 0) runtime.raise("expected leeway >= 0, got {}", leeway);
  const std::optional<int64_t> n_value = length_of(value);
  if (!n_value) runtime.raise("object of type '{}' has no len()", type_name(value));
  if (*n_value - leeway <= length) return value;
  if (!value.is_string()) runtime.raise("truncate: expected str, got {}", type_name(value));
  std::string_view kept = value.view().substr(0, value.text().byte_offset(static_cast<size_t>(length - n_end)));
  if (!parameters.boolean(1, false)) kept = kept.substr(0, std::min(kept.rfind(' '), kept.size()));
  return runtime.text(std::string(kept) + std::string(end));
}

Value filter_wordcount(Runtime& runtime, const Value& value, Args& args) {
  const Parameters none(runtime, "wordcount", args, {});
  std::string storage;
  const std::string_view text = runtime.to_view(value, storage);
  runtime.budget().step_bytes(text.size());
  int64_t n_words = 0;
  bool is_in_word = false;
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = decode_utf8(text, at);
    const bool is_word = c.code_point == '_' || contains(kAlpha, c.code_point) || contains(kNumeric, c.code_point);
    if (is_word && !is_in_word) ++n_words;
    is_in_word = is_word;
    at += static_cast<size_t>(c.n_bytes);
  }
  return Value(n_words);
}

Value filter_wordwrap(Runtime& runtime, const Value& value, Args& args) {
  const Parameters parameters(runtime, "wordwrap", args,
                              {"width", "break_long_words", "wrapstring", "break_on_hyphens"});
  if (!value.is_string()) runtime.raise("wordwrap: expected str, got {}", type_name(value));
  const int64_t width = parameters.integer(0, 79);
  if (width <= 0) runtime.raise("invalid width {} (must be > 0)", width);
  const std::string_view joiner = parameters.string(2, "\n");
  runtime.budget().step(value.view().size() / 4);
  std::string out;
  bool is_first = true;
  for (const std::string_view line : split_lines(value.view(), false)) {
    if (!is_first) out += joiner;
    is_first = false;
    out += join_texts(
        wrap_line(line, static_cast<size_t>(width), parameters.boolean(1, true), parameters.boolean(3, true)), joiner);
    runtime.budget().check_text(out.size());
  }
  return runtime.text(std::move(out));
}

Value filter_striptags(Runtime& runtime, const Value& value, Args& args) {
  const Parameters none(runtime, "striptags", args, {});
  std::string storage;
  return runtime.text(strip_tags(runtime.to_view(value, storage)));
}

void append_quoted(std::string& out, std::string_view text, bool is_query) {
  for (const char c : text) {
    const bool is_plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
                          c == '.' || c == '-' || c == '~' || (c == '/' && !is_query);
    if (is_plain) {
      out.push_back(c);
    } else if (c == ' ' && is_query) {
      out.push_back('+');
    } else {
      out += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
  }
}

Value filter_urlencode(Runtime& runtime, const Value& value, Args& args) {
  const Parameters none(runtime, "urlencode", args, {});
  std::string out;
  std::string storage;
  const bool is_pairs = value.is(Type::kDict) || value.is_sequence() || value.is(Type::kView) ||
                        value.is(Type::kIterator) || value.is(Type::kRange);
  if (!is_pairs) {
    if (value.is_undefined()) return runtime.text("");
    append_quoted(out, runtime.to_view(value, storage), false);
    return runtime.text(std::move(out));
  }
  std::vector<Value> pairs;
  if (value.is(Type::kDict)) {
    for (const auto& [key, item] : value.dict().entries()) pairs.push_back(runtime.tuple({key, item}));
  } else {
    pairs = runtime.elements(value);
  }
  for (const Value& pair : pairs) {
    const std::vector<Value> parts = runtime.elements(pair);
    if (parts.size() != 2) runtime.raise("urlencode: expected pairs, got {} values", parts.size());
    if (!out.empty()) out += "&";
    append_quoted(out, runtime.to_view(parts[0], storage), true);
    out += "=";
    append_quoted(out, runtime.to_view(parts[1], storage), true);
    runtime.budget().check_text(out.size());
  }
  return runtime.text(std::move(out));
}

Value filter_xmlattr(Runtime& runtime, const Value& value, Args& args) {
  const Parameters parameters(runtime, "xmlattr", args, {"autospace"});
  if (!value.is(Type::kDict)) runtime.raise("xmlattr: expected dict, got {}", type_name(value));
  std::string out;
  std::string storage;
  for (const auto& [key, item] : value.dict().entries()) {
    if (item.is_none() || item.is_undefined()) continue;
    if (!key.is_string()) runtime.raise("xmlattr: expected str keys, got {}", type_name(key));
    if (key.view().find_first_of(" \t\n\r\f\v/>=") != std::string_view::npos) {
      runtime.raise("Invalid character in attribute name: {}", runtime.to_repr(key));
    }
    if (!out.empty()) out += " ";
    append_escaped(out, key.view());
    out += "=\"";
    const std::string_view text = runtime.to_view(item, storage);
    if (item.is_string() && item.text().is_safe()) {
      out += text;
    } else {
      append_escaped(out, text);
    }
    out += "\"";
  }
  if (!out.empty() && parameters.boolean(0, true)) out.insert(0, " ");
  return runtime.text(std::move(out));
}

Value filter_tojson(Runtime& runtime, const Value& value, Args& args) {
  const Parameters parameters(runtime, "tojson", args, {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonStyle style;
  style.is_ascii = parameters.boolean(0, false);
  style.sorts_keys = parameters.boolean(3, false);
  if (parameters.has(1) && !parameters[1].is_none()) {
    style.has_indent = true;
    style.item_separator = ",";
    if (parameters[1].is_string()) {
      style.indent = std::string(parameters[1].view());
    } else {
      const int64_t width = std::max<int64_t>(parameters.integer(1, 0), 0);
      if (width > 1000) Budget::fail_limit("indent too wide");
      style.indent = std::string(static_cast<size_t>(width), ' ');
    }
  }
  if (parameters.has(2) && !parameters[2].is_none()) {
    const std::vector<Value> separators = runtime.elements(parameters[2]);
    if (separators.size() != 2 || !separators[0].is_string() || !separators[1].is_string()) {
      runtime.raise("tojson: separators must be two strings");
    }
    style.item_separator = std::string(separators[0].view());
    style.key_separator = std::string(separators[1].view());
  }
  return runtime.text(to_json_text(runtime, value, style));
}

Value filter_pprint(Runtime& runtime, const Value& value, Args& args) {
  const Parameters none(runtime, "pprint", args, {});
  return runtime.text(pretty_repr(runtime, value));
}

constexpr NamedFunction<Filter> kFilters[] = {
    {"trim", filter_trim},           {"tojson", filter_tojson},
    {"upper", filter_upper},         {"lower", filter_lower},
    {"string", filter_string},       {"replace", filter_replace},
    {"indent", filter_indent},       {"capitalize", filter_capitalize},
    {"center", filter_center},       {"e", filter_escape},
    {"escape", filter_escape},       {"forceescape", filter_forceescape},
    {"format", filter_format},       {"pprint", filter_pprint},
    {"safe", filter_safe},           {"striptags", filter_striptags},
    {"title", filter_title},         {"truncate", filter_truncate},
    {"urlencode", filter_urlencode}, {"wordcount", filter_wordcount},
    {"wordwrap", filter_wordwrap},   {"xmlattr", filter_xmlattr},
};

}  // namespace

Filter find_text_filter(std::string_view name) { return find_in(kFilters, name); }

}  // namespace mobilellm::jinja
