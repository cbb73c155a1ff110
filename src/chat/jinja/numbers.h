/// Numbers in text, read as Python's int() and float() do.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace mobilellm::jinja {

/// `base` 0 or 2..36. Nothing when it is no integer; `is_overflow` tells when it is one outside int64.
std::optional<int64_t> parse_integer(std::string_view text, int64_t base, bool& is_overflow);
std::optional<double> parse_float(std::string_view text);

}  // namespace mobilellm::jinja
