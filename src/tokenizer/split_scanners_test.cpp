// The hand-written scanners must cut every text exactly as their expressions do in PCRE2.
#include "tokenizer/split_scanners.h"

#include <gtest/gtest.h>

#include "base/files.h"
#include "base/random.h"
#include "base/utf8.h"
#include "tokenizer/regex.h"

namespace mobilellm {
namespace {

using Pieces = std::vector<std::string>;

Pieces cut_by_scanner(ScanFunction scan, std::string_view text) {
  Pieces pieces;
  const char* const end = text.data() + text.size();
  for (const char* p = text.data(); p < end;) {
    const char* const next = scan(p, end);
    EXPECT_GT(next, p);
    pieces.emplace_back(p, next);
    p = next;
  }
  return pieces;
}

Pieces cut_by_regex(const Regex& regex, std::string_view text) {
  Pieces pieces;
  size_t done = 0;
  Regex::Matches matches(regex, text);
  for (size_t begin = 0, end = 0; matches.next(begin, end); done = end) {
    EXPECT_EQ(begin, done) << "the expression leaves a gap";
    pieces.emplace_back(text.substr(begin, end - begin));
  }
  EXPECT_EQ(done, text.size());
  return pieces;
}

/// Numbers alone, kGpt2Pattern between them: what scan_digits_gpt2 does in one pass.
Pieces cut_digits_gpt2(const Regex& number, const Regex& gpt2, std::string_view text) {
  Pieces pieces;
  size_t done = 0;
  const auto add_text = [&](size_t end) {
    for (std::string& piece : cut_by_regex(gpt2, text.substr(done, end - done))) pieces.push_back(std::move(piece));
  };
  Regex::Matches matches(number, text);
  for (size_t begin = 0, end = 0; matches.next(begin, end); done = end) {
    add_text(begin);
    pieces.emplace_back(text.substr(begin, end - begin));
  }
  add_text(text.size());
  return pieces;
}

/// Texts that walk into every branch: each a few characters from a set chosen for their classes.
std::string random_text(uint64_t seed) {
  static const std::vector<std::string> kParts = {
      "a",          "b",          "S",          "s",       "t",      "m",      "d",      "l",      "ll",
      "re",         "RE",         "vE",         "Z",       "0",      "1",      "9",      " ",      " ",
      "  ",         "\t",         "\n",         "\r",      "\r\n",   "\n\n",   "'",      "'s",     "'S",
      "'\u017F",    "'ll",        "'Re",        "\u2019s", ".",      "!",      "-",      "_",      "<",
      "$",          "/",          "\u00E9",     "e\u0301", "\u0301", "\u00A0", "\u3000", "\u2028", "\u0085",
      "\u180E",     "\u200B",     "\u200D",     "\u4E2D",  "\u3042", "\u0660", "\u00BD", "\u2167", "\u0E01",
      "\U0001F600", "\U0001D7D8", "\U00020BB7", "\u0001",  "\x1C",   "\u00AD", "\uFFFD", "\u0378"};
  std::string text;
  uint64_t state = seed * 0x9E3779B97F4A7C15ULL + 1;
  const auto next = [&state] {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
  };
  const uint64_t n = next() % 24;
  for (uint64_t i = 0; i < n; ++i) text += kParts[next() % kParts.size()];
  return text;
}

TEST(SplitScanners, CutAsTheExpressions) {
  const std::pair<const char*, ScanFunction> cases[] = {
      {kLlama3Pattern, scan_llama3}, {kQwen2Pattern, scan_qwen2}, {kGpt2Pattern, scan_gpt2}};
  for (const auto& [pattern, scan] : cases) {
    ASSERT_EQ(find_scanner(pattern), scan);
    const Regex regex(pattern, "test");
    for (uint64_t seed = 0; seed < 20000; ++seed) {
      const std::string text = random_text(seed);
      ASSERT_EQ(cut_by_scanner(scan, text), cut_by_regex(regex, text)) << testing::PrintToString(text);
    }
  }
  EXPECT_EQ(find_scanner("\\s+"), nullptr);
}

TEST(SplitScanners, CutDigitsAndTextInOnePass) {
  const Regex number("\\p{N}", "test");
  const Regex gpt2(kGpt2Pattern, "test");
  for (uint64_t seed = 0; seed < 20000; ++seed) {
    const std::string text = random_text(seed);
    ASSERT_EQ(cut_by_scanner(scan_digits_gpt2, text), cut_digits_gpt2(number, gpt2, text))
        << testing::PrintToString(text);
  }
}

// Every character in four surroundings; those that PCRE2's older Unicode does not know are left out.
TEST(SplitScanners, ClassEveryCharacterAsTheExpressions) {
  const Regex regex(kLlama3Pattern, "test");
  const Regex assigned("[\\p{L}\\p{N}\\p{M}\\p{P}\\p{S}\\p{Z}\\p{Cc}\\p{Cf}]", "test");
  std::string text;
  for (char32_t c = 1; c < 0x110000; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    std::string one;
    append_utf8(one, c);
    size_t begin = 0;
    size_t end = 0;
    if (!Regex::Matches(assigned, one).next(begin, end)) continue;
    text += one + "a " + one + " \n" + one + "1";
    if (text.size() < 4000) continue;
    ASSERT_EQ(cut_by_scanner(scan_llama3, text), cut_by_regex(regex, text));
    text.clear();
  }
}

TEST(SplitScanners, KnowTheLongS) {
  EXPECT_EQ(cut_by_scanner(scan_llama3, "x'\u017Fy"), (Pieces{"x", "'\u017F", "y"}));
  EXPECT_EQ(cut_by_scanner(scan_gpt2, "x'\u017Fy"), (Pieces{"x", "'", "\u017Fy"}));
}

}  // namespace
}  // namespace mobilellm
