/// Hand-written equivalents of the well-known pre-tokenizer regular expressions.
#pragma once

#include <string_view>

namespace mobilellm {

/// End of the piece that starts at `begin` (begin < end, well-formed UTF-8). Each of these expressions covers any text
/// with matches that touch, so a text is cut by calling it until the end. `end` counts as the end of the text.
using ScanFunction = const char* (*)(const char* begin, const char* end);

/// The scanner that cuts exactly as the expression, or nullptr when the expression is none of the known ones
/// (compared as text).
ScanFunction find_scanner(std::string_view pattern);

/// The expression that ByteLevel pre-tokenizers use.
extern const char* const kGpt2Pattern;
extern const char* const kLlama3Pattern;
extern const char* const kQwen2Pattern;

/// Single numbers first, then kGpt2Pattern between them (SmolLM).
const char* scan_digits_gpt2(const char* begin, const char* end);
const char* scan_gpt2(const char* begin, const char* end);
const char* scan_llama3(const char* begin, const char* end);
const char* scan_qwen2(const char* begin, const char* end);

}  // namespace mobilellm
