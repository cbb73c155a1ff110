// The well-known split expressions as scanners: one pass, a class table, no backtracking.
#include "tokenizer/split_scanners.h"

#include <array>

#include "tokenizer/unicode_tables.h"
#include "tokenizer/utf8_scan.h"

namespace mobilellm {

using unicode::kLetter;
using unicode::kNumber;
using unicode::kSpace;

const char* const kGpt2Pattern = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
const char* const kLlama3Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
const char* const kQwen2Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

namespace {

constexpr uint8_t kLetterNumberSpace = kLetter | kNumber | kSpace;

constexpr std::array<uint8_t, 128> make_ascii_classes() {
  std::array<uint8_t, 128> classes{};
  for (size_t c = 0; c < 128; ++c) {
    if ((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z')) classes[c] = kLetter;
    if (c >= '0' && c <= '9') classes[c] = kNumber;
    if ((c >= 9 && c <= 13) || c == ' ') classes[c] = kSpace;
  }
  return classes;
}
constexpr std::array<uint8_t, 128> kAscii = make_ascii_classes();

struct Class {
  uint8_t bits;
  uint32_t n_bytes;
};

inline Class class_at(const char* p) {
  const auto lead = static_cast<unsigned char>(*p);
  if (lead < 0x80) return {kAscii[lead], 1};
  const CharAt c = char_at(p);
  return {unicode::class_of(c.code_point), c.n_bytes};
}

/// First position whose class has none of `bits`.
inline const char* skip_while(const char* p, const char* end, uint8_t bits) {
  while (p < end) {
    const Class c = class_at(p);
    if ((c.bits & bits) == 0) break;
    p += c.n_bytes;
  }
  return p;
}

/// First position whose class has one of `bits`.
inline const char* skip_until(const char* p, const char* end, uint8_t bits) {
  while (p < end) {
    const Class c = class_at(p);
    if ((c.bits & bits) != 0) break;
    p += c.n_bytes;
  }
  return p;
}

/// Length of 's 't 're 've 'm 'll 'd at `p` (which holds the apostrophe), 0 when there is none.
template <bool kAnyCase>
inline size_t contraction(const char* p, const char* end) {
  if (end - p < 2) return 0;
  const auto fold = [](char c) { return kAnyCase && c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
  const char first = fold(p[1]);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return 2;
  if (end - p < 3) return 0;
  const char second = fold(p[2]);
  if ((first == 'r' && second == 'e') || (first == 'v' && second == 'e') || (first == 'l' && second == 'l')) return 3;
  // Case folding also takes U+017F, the long s, for an s.
  if (kAnyCase && p[1] == '\xC5' && p[2] == '\xBF') return 3;
  return 0;
}

/// \s+(?!\S)|\s+ at the run [begin, run_end): all of it at the end of the text or before `tail_is_end`,
/// else all but the last character, which goes with what follows, unless it is alone.
inline const char* split_spaces(const char* begin, const char* run_end, bool at_end) {
  if (at_end) return run_end;
  const char* const last = run_end - char_before(run_end, begin).n_bytes;
  return last > begin ? last : run_end;
}

/// Llama-3 and Qwen: contractions of any case, one non-letter glued to a word, newlines glued to punctuation.
template <int kMaxNumbers>
inline const char* scan_gpt4(const char* p, const char* end) {
  if (*p == '\'') {
    if (const size_t n = contraction<true>(p, end); n != 0) return p + n;
  }
  const Class first = class_at(p);
  const char* const second = p + first.n_bytes;
  if ((first.bits & kLetter) != 0) return skip_while(second, end, kLetter);
  if ((first.bits & kNumber) != 0) {
    const char* q = second;
    for (int i = 1; i < kMaxNumbers && q < end; ++i) {
      const Class c = class_at(q);
      if ((c.bits & kNumber) == 0) break;
      q += c.n_bytes;
    }
    return q;
  }
  const bool is_newline = *p == '\r' || *p == '\n';
  const Class next = second < end ? class_at(second) : Class{kSpace, 0};
  if (!is_newline && (next.bits & kLetter) != 0) return skip_while(second + next.n_bytes, end, kLetter);
  const bool is_space = (first.bits & kSpace) != 0;
  if (!is_space || (*p == ' ' && (next.bits & kLetterNumberSpace) == 0)) {
    const char* q = skip_until(second, end, kLetterNumberSpace);
    while (q < end && (*q == '\r' || *q == '\n')) ++q;
    return q;
  }
  const char* newline_end = is_newline ? second : nullptr;
  const char* run = second;
  while (run < end) {
    const Class c = class_at(run);
    if ((c.bits & kSpace) == 0) break;
    if (*run == '\r' || *run == '\n') newline_end = run + 1;
    run += c.n_bytes;
  }
  if (newline_end != nullptr) return newline_end;
  return split_spaces(p, run, run == end);
}

/// GPT-2; with kSingleNumbers every number is a piece of its own and ends the text before it.
template <bool kSingleNumbers>
inline const char* scan_gpt2_impl(const char* p, const char* end) {
  if (*p == '\'') {
    if (const size_t n = contraction<false>(p, end); n != 0) return p + n;
  }
  Class c = class_at(p);
  const char* q = p;
  if (*p == ' ' && p + 1 < end) {
    const Class next = class_at(p + 1);
    if ((next.bits & (kSingleNumbers ? kSpace | kNumber : kSpace)) == 0) {
      c = next;
      ++q;
    }
  }
  q += c.n_bytes;
  if ((c.bits & kLetter) != 0) return skip_while(q, end, kLetter);
  if ((c.bits & kNumber) != 0) return kSingleNumbers ? q : skip_while(q, end, kNumber);
  if ((c.bits & kSpace) == 0) return skip_until(q, end, kLetterNumberSpace);
  const char* const run = skip_while(q, end, kSpace);
  return split_spaces(p, run, run == end || (kSingleNumbers && (class_at(run).bits & kNumber) != 0));
}

}  // namespace

const char* scan_llama3(const char* begin, const char* end) { return scan_gpt4<3>(begin, end); }
const char* scan_qwen2(const char* begin, const char* end) { return scan_gpt4<1>(begin, end); }
const char* scan_gpt2(const char* begin, const char* end) { return scan_gpt2_impl<false>(begin, end); }
const char* scan_digits_gpt2(const char* begin, const char* end) { return scan_gpt2_impl<true>(begin, end); }

ScanFunction find_scanner(std::string_view pattern) {
  if (pattern == kLlama3Pattern) return scan_llama3;
  if (pattern == kQwen2Pattern) return scan_qwen2;
  if (pattern == kGpt2Pattern) return scan_gpt2;
  return nullptr;
}

}  // namespace mobilellm
