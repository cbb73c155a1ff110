/// Laying out text: lines, wrapping, tags taken out, pretty-printed values.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "chat/jinja/runtime.h"

namespace mobilellm::jinja {

/// str.splitlines(keepends).
std::vector<std::string_view> split_lines(std::string_view text, bool keeps_ends);
/// textwrap.wrap of one line, tabs and spaces kept as they are.
std::vector<std::string> wrap_line(std::string_view line, size_t width, bool breaks_long_words, bool breaks_on_hyphens);
std::string join_texts(const std::vector<std::string>& parts, std::string_view separator);
/// Markup.striptags: without comments and tags, white space collapsed, entities replaced.
std::string strip_tags(std::string_view text);
/// pprint.pformat at 80 columns.
std::string pretty_repr(Runtime& runtime, const Value& value);

}  // namespace mobilellm::jinja
