/// Template text to tokens, with Jinja's white-space rules (trim_blocks and lstrip_blocks on).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace mobilellm::jinja {

enum class TokenKind : uint8_t {
  kData,
  kVariableBegin,
  kVariableEnd,
  kBlockBegin,
  kBlockEnd,
  kName,
  kString,
  kInteger,
  kFloat,
  kOperator,  ///< The text says which.
  kEnd,
};

struct Token {
  TokenKind kind = TokenKind::kEnd;
  int line = 1;
  std::string text;     ///< Data, name, operator, or the value of a string.
  int64_t integer = 0;  ///< Value of kInteger.
  double number = 0.0;  ///< Value of kFloat.
};

/// What an error message calls the token.
std::string describe(const Token& token);

/// Throws kTemplate "[template] <origin>:<line>: message". The last token is kEnd.
std::vector<Token> tokenize(std::string_view source, std::string_view origin);

/// Throws kTemplate for a place in a template.
[[noreturn]] void fail_at(std::string_view origin, int line, std::string_view message);

}  // namespace mobilellm::jinja
