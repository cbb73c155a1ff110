/// Python's text formatting: the % operator, str.format, json.dumps, strftime and HTML escaping.
#pragma once

#include <string>
#include <string_view>

#include "chat/jinja/runtime.h"

namespace mobilellm::jinja {

/// format % arguments (a tuple, a dict for %(name)s, or one value).
std::string format_percent(Runtime& runtime, const Value& format, const Value& arguments);
/// format.format(*positional, **named).
std::string format_braces(Runtime& runtime, const Value& format, const Args& args);

/// Appends with & < > ' " as HTML entities.
void append_escaped(std::string& out, std::string_view text);

struct JsonStyle {
  bool is_ascii = false;
  bool sorts_keys = false;
  bool has_indent = false;
  std::string indent;
  std::string item_separator = ", ";
  std::string key_separator = ": ";
};
/// json.dumps; throws for values that JSON has no form for.
std::string to_json_text(Runtime& runtime, const Value& value, const JsonStyle& style);

/// datetime.strftime in the C locale.
std::string format_time(std::string_view format, const WallClock& time);

}  // namespace mobilellm::jinja
