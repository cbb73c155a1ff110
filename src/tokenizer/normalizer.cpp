// The normalizer steps.
#include "tokenizer/normalizer.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "tokenizer/byte_map.h"
#include "tokenizer/unicode_tables.h"
#include "tokenizer/utf8_scan.h"

namespace mobilellm {

std::string replace_all(std::string_view text, const TextPattern& pattern, std::string_view content, size_t max_bytes) {
  std::string out;
  out.reserve(text.size());
  size_t done = 0;
  if (pattern.regex) {
    Regex::Matches matches(*pattern.regex, text);
    for (size_t begin = 0, end = 0; matches.next(begin, end); done = end) {
      out.append(text.substr(done, begin - done)).append(content);
      if (out.size() > max_bytes) return out;
    }
  } else if (!pattern.literal.empty()) {
    while (done < text.size()) {
      const void* const found =
          memmem(text.data() + done, text.size() - done, pattern.literal.data(), pattern.literal.size());
      if (found == nullptr) break;
      const auto begin = static_cast<size_t>(static_cast<const char*>(found) - text.data());
      out.append(text.substr(done, begin - done)).append(content);
      done = begin + pattern.literal.size();
      if (out.size() > max_bytes) return out;
    }
  }
  return out.append(text.substr(done));
}

namespace {

// A real tokenizer's steps grow a text a few times at most; a chain of hostile ones grows it exponentially.
constexpr size_t kMinGrowthLimit = 64 << 20;
constexpr size_t kMaxGrowth = 16;

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
  size_t max_bytes;
  std::string operator()(const NormalizeForm& step) const { return unicode::normalize(text, step.form); }
  std::string operator()(const LowerCase&) const { return unicode::lower_case(text); }
  std::string operator()(const StripAccents&) const { return unicode::strip_accents(text); }
  std::string operator()(const StripSpaces& step) const { return std::string(strip_spaces(text, step)); }
  std::string operator()(const PrependText& step) const {
    return text.empty() ? std::string() : step.text + std::string(text);
  }
  std::string operator()(const ReplaceText& step) const {
    return replace_all(text, step.pattern, step.content, max_bytes);
  }
  std::string operator()(const MapBytes&) const { return map_bytes(text); }
};

}  // namespace

std::string Normalizer::normalize(std::string_view text) const {
  std::string current(text);
  const size_t max_bytes = std::max(kMinGrowthLimit, kMaxGrowth * text.size());
  for (const NormalizerStep& step : steps_) {
    current = std::visit(Apply{current, max_bytes}, step);
    if (current.size() > max_bytes) {
      fail(ErrorCode::kResourceLimit,
           "[tokenizer] normalizer: the text grows from {} to more than {} bytes; the tokenizer's steps are not usable",
           text.size(), max_bytes);
    }
  }
  return current;
}

}  // namespace mobilellm
