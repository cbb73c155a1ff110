/// Tokens to a syntax tree.
#pragma once

#include <memory>
#include <string_view>

#include "chat/jinja/ast.h"

namespace mobilellm::jinja {

/// Nesting of blocks and expressions in the source.
inline constexpr int kMaxParseDepth = 100;
/// Levels of an expression tree; chains such as a + b + c count one level each.
inline constexpr int kMaxExprHeight = 256;

/// Throws kTemplate naming origin and line for what Jinja refuses, kResourceLimit past the bounds.
std::shared_ptr<const Template> parse_template(std::string_view source, std::string_view origin);

}  // namespace mobilellm::jinja
