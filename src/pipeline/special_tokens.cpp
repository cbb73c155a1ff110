// Breaking, recognising and encoding.
#include "pipeline/special_tokens.h"

#include <algorithm>

#include "base/utf8.h"

namespace mobilellm {
namespace {

// U+FDD0, a code point that is no character and never will be one. A user who writes it only breaks more of his own
// text.
constexpr std::string_view kMark = "\xEF\xB7\x90";

}  // namespace

SpecialTokenGuard::SpecialTokenGuard(const Tokenizer& tokenizer) : tokenizer_(tokenizer), by_first_byte_(256) {
  const auto n_tokens = static_cast<TokenId>(tokenizer.vocab_size());
  for (TokenId id = 0; id < n_tokens; ++id) {
    if (!tokenizer.is_special(id)) continue;
    const std::string text(tokenizer.token_text(id));
    // A single character cannot be broken.
    if (count_code_points(text) > 1) by_first_byte_[static_cast<unsigned char>(text[0])].push_back(text);
  }
}

size_t SpecialTokenGuard::token_at(std::string_view text, size_t offset) const {
  size_t longest = 0;
  for (const std::string& token : by_first_byte_[static_cast<unsigned char>(text[offset])]) {
    if (token.size() > longest && text.substr(offset, token.size()) == token) longest = token.size();
  }
  return longest;
}

std::string SpecialTokenGuard::break_tokens(std::string_view text) {
  std::string result;
  for (size_t i = 0; i < text.size();) {
    const auto n_bytes = static_cast<size_t>(std::max(1, decode_utf8(text, i).n_bytes));
    result += text.substr(i, n_bytes);
    if (token_at(text, i) > 0) {
      result += kMark;
      has_marks_ = true;
    }
    i += n_bytes;
  }
  return result;
}

Json SpecialTokenGuard::protect(const Json& value) {
  if (value.is_string()) return break_tokens(value.as_string());
  if (value.is_array()) {
    Json::Array result;
    for (const Json& element : value.as_array()) result.push_back(protect(element));
    return result;
  }
  if (value.is_object()) {
    Json::Object result;
    for (const auto& [key, member] : value.as_object()) {
      result.emplace_back(key, key == "role" ? member : protect(member));
    }
    return result;
  }
  return value;
}

std::string SpecialTokenGuard::remove_marks(std::string_view rendered) const {
  if (!has_marks_) return std::string(rendered);
  std::string result;
  size_t begin = 0;
  for (size_t at = rendered.find(kMark); at != std::string_view::npos; at = rendered.find(kMark, begin)) {
    result += rendered.substr(begin, at - begin);
    begin = at + kMark.size();
  }
  return result += rendered.substr(begin);
}

std::vector<TokenId> SpecialTokenGuard::encode(std::string_view rendered) const {
  const auto encode_part = [&](std::string_view text, bool parse_special) {
    return tokenizer_.encode(text, {.add_special = false, .parse_special = parse_special});
  };
  if (!has_marks_) return encode_part(rendered, true);
  std::vector<TokenId> ids;
  const auto append = [&](const std::vector<TokenId>& part) { ids.insert(ids.end(), part.begin(), part.end()); };
  // Cut only at the template's tokens that enclose a broken one: an encoder splits there anyway.
  size_t open_begin = 0;   // What is not encoded yet.
  size_t plain_begin = 0;  // Behind the last special token.
  const auto close_plain = [&](size_t end) {
    const std::string_view plain = rendered.substr(plain_begin, end - plain_begin);
    if (plain.find(kMark) == std::string_view::npos) return;
    append(encode_part(rendered.substr(open_begin, plain_begin - open_begin), true));
    append(encode_part(remove_marks(plain), false));
    open_begin = end;
  };
  for (size_t i = 0; i < rendered.size();) {
    const size_t n_bytes = token_at(rendered, i);
    if (n_bytes > 0) {
      close_plain(i);
      plain_begin = i + n_bytes;
    }
    i += std::max<size_t>(n_bytes, 1);
  }
  close_plain(rendered.size());
  append(encode_part(rendered.substr(open_begin), true));
  return ids;
}

}  // namespace mobilellm
