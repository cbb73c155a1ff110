// The normalizer steps.
#include "tokenizer/normalizer.h"

#include <cstring>

#include "tokenizer/byte_map.h"
#include "tokenizer/unicode_tables.h"
#include "tokenizer/utf8_scan.h"

namespace mobilellm {

std::string replace_all(std::string_view text, const TextPattern& pattern, std::string_view content) {
  std::string out;
  out.reserve(text.size());
  size_t done = 0;
  if (pattern.regex) {
    Regex::Matches matches(*pattern.regex, text);
    for (size_t begin = 0, end = 0; matches.next(begin, end); done = end) {
      out.append(text.substr(done, begin - done)).append(content);
    }
  } else if (!pattern.literal.empty()) {
    while (done < text.size()) {
      const void* const found =
          memmem(text.data() + done, text.size() - done, pattern.literal.data(), pattern.literal.size());
      if (found == nullptr) break;
      const auto begin = static_cast<size_t>(static_cast<const char*>(found) - text.data());
      out.append(text.substr(done, begin - done)).append(content);
      done = begin + pattern.literal.size();
    }
  }
  return out.append(text.substr(done));
}

namespace {

std::string_view strip_spaces(std::string_view text, const StripSpaces& sides) {
  const auto is_space = [](CharAt c) { return (unicode::class_of(c.code_point) & unicode::kSpace) != 0; };
  while (sides.left && !text.empty()) {
    const CharAt c = char_at(text.data());
    if (!is_space(c)) break;
    text.remove_prefix(c.n_bytes);
  }
  while (sides.right && !text.empty()) {
    const CharAt c = char_before(text.data() + text.size(), text.data());
    if (!is_space(c)) break;
    text.remove_suffix(c.n_bytes);
  }
  return text;
}

struct Apply {
  std::string_view text;
  std::string operator()(const NormalizeForm& step) const { return unicode::normalize(text, step.form); }
  std::string operator()(const LowerCase&) const { return unicode::lower_case(text); }
  std::string operator()(const StripAccents&) const { return unicode::strip_accents(text); }
  std::string operator()(const StripSpaces& step) const { return std::string(strip_spaces(text, step)); }
  std::string operator()(const PrependText& step) const {
    return text.empty() ? std::string() : step.text + std::string(text);
  }
  std::string operator()(const ReplaceText& step) const { return replace_all(text, step.pattern, step.content); }
  std::string operator()(const MapBytes&) const { return map_bytes(text); }
};

}  // namespace

std::string Normalizer::normalize(std::string_view text) const {
  std::string current(text);
  for (const NormalizerStep& step : steps_) current = std::visit(Apply{current}, step);
  return current;
}

}  // namespace mobilellm
