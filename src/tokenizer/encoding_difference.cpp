// Comparison of two tokenizers on texts that tell split rules, normalizers and flags apart.
#include <fmt/core.h>

#include <cstdint>
#include <iterator>
#include <string>
#include <vector>

#include "tokenizer/export.h"

namespace mobilellm {
namespace {

// Special tokens go through the same difficult neighbourhoods, but a few of each kind are enough.
constexpr size_t kMaxSpecialTokens = 48;

const char* const kTexts[] = {
    "",
    " ",
    "a",
    "Hello, World! How are you?",
    "  leading and trailing   ",
    "tabs\tand\t\ttabs \t mixed\n",
    "line\nline\n\nline\r\nline \n  \n\n   end\n",
    "\n\n\n   \n",
    "I'm you're HE'S they'LL we've I'd can't 'quoted' it\xE2\x80\x99s",
    "1 12 123 1234 12345 1234567890 3.14159 1,000,000 0x1F 2^10 x1y22z333",
    "\xD9\xA1\xD9\xA2\xD9\xA3 \xC2\xBD \xE2\x85\xA7 \xE2\x82\x81\xE2\x82\x82",
    "(x + y)**2 == x**2 + 2*x*y + y**2; \\boxed{42}.",
    "def f(a, b):\n    return a+b  # comment\n\n\tprint(\"x\")\n",
    "for (int i = 0; i < n; ++i) { sum += a[i]; }",
    "...!!!? ?? ---___###$$$%%% <<>> {{}} [[]] \"\"'' ``",
    "http://example.com/a/b?c=d&e=f#g user@example.org C++ C#",
    "na\xC3\xAFve caf\xC3\xA9 nai\xCC\x88ve cafe\xCC\x81 \xC3\x85ngstr\xC3\xB6m A\xCC\x8A",
    "\xE4\xBD\xA0\xE5\xA5\xBD\xEF\xBC\x8C\xE4\xB8\x96\xE7\x95\x8C\xE3\x80\x82",
    "\xE3\x81\x93\xE3\x82\x93\xE3\x81\xAB\xE3\x81\xA1\xE3\x81\xAF",
    "\xE3\x82\xAB\xE3\x82\xBF\xE3\x82\xAB\xE3\x83\x8A \xEC\x95\x88\xEB\x85\x95",
    "\xD0\x9F\xD1\x80\xD0\xB8\xD0\xB2\xD0\xB5\xD1\x82 \xD0\xBC\xD0\xB8\xD1\x80! \xCE\x93\xCE\xB5\xCE\xB9\xCE\xAC",
    "\xD8\xB3\xD9\x84\xD8\xA7\xD9\x85 \xE0\xA4\xA8\xE0\xA4\xAE\xE0\xA4\xB8\xE0\xA5\x8D\xE0\xA4\xA4\xE0\xA5\x87",
    "\xE0\xB8\xAA\xE0\xB8\xA7\xE0\xB8\xB1\xE0\xB8\xAA\xE0\xB8\x94\xE0\xB8\xB5",
    "\xF0\x9F\x98\x80\xF0\x9F\x91\x8D\xF0\x9F\x8F\xBD \xF0\x9F\x87\xA9\xF0\x9F\x87\xAA",
    "\xF0\x9F\x91\xA8\xE2\x80\x8D\xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x91\xA7 \xE2\x9C\x93 \xF0\x9D\x94\xB8",
    "x\xC2\xA0y\xE2\x80\x83z\xE3\x80\x80w\xE2\x80\x8Bu\xEF\xBB\xBFv \xEF\xBF\xBD \xE2\x96\x81x",
    "CamelCaseWords snake_case_words SCREAMING MiXeD \xC7\x85 \xCA\xB0 \xC2\xAA",
    "<0x0A> <0xFF> <s> </s> <unk> [PAD1] <|x|> \x01\x02\x7F",
    "The quick brown fox jumps over the lazy dog, and 17 * 23 is what? Let's compute it step by step: 17 * 20 = 340.",
};

// Pieces that split rules treat differently next to each other.
const char* const kPieces[] = {"a",
                               "B",
                               "\xC3\xA9",
                               "e\xCC\x81",
                               "\xE4\xBD\xA0",
                               "\xE3\x81\x82",
                               "1",
                               "22",
                               "9999",
                               "\xC2\xBD",
                               " ",
                               "  ",
                               "   ",
                               "\n",
                               "\n\n",
                               "\r\n",
                               "\t",
                               ".",
                               "!!",
                               "'",
                               "'s",
                               "'LL",
                               "-",
                               "_",
                               "(",
                               "\"",
                               "/",
                               "$",
                               "+",
                               "\xE2\x82\xAC",
                               "\xE2\x80\x9C",
                               "\x7F",
                               "\x01",
                               "\xC2\xA0",
                               "\xF0\x9F\x98\x80",
                               "\xCC\x81",
                               "the",
                               "Word",
                               "\xD0\x96"};
constexpr size_t kRandomTexts = 400;
constexpr size_t kPiecesPerText = 8;

std::string random_text(size_t index) {
  std::string text;
  uint64_t state = index * 0x9E3779B97F4A7C15ULL + 1;
  for (size_t i = 0; i < kPiecesPerText; ++i) {
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    text += kPieces[(state >> 33) % std::size(kPieces)];
  }
  return text;
}

std::vector<std::string> comparison_texts(const Tokenizer& tokenizer) {
  std::vector<std::string> texts(std::begin(kTexts), std::end(kTexts));
  for (size_t i = 0; i < kRandomTexts; ++i) texts.push_back(random_text(i));
  size_t n_special = 0;
  for (size_t i = 0; i < tokenizer.vocab_size() && n_special < kMaxSpecialTokens; ++i) {
    const auto id = static_cast<TokenId>(i);
    if (!tokenizer.is_special(id)) continue;
    const std::string token = tokenizer.token_text(id);
    texts.push_back(fmt::format("x {0} y{0}Z\n{0}", token));
    ++n_special;
  }
  return texts;
}

}  // namespace

std::optional<std::string> first_encoding_difference(const Tokenizer& a, const Tokenizer& b) {
  for (const Tokenizer* tokenizer : {&a, &b}) {
    for (const std::string& text : comparison_texts(*tokenizer)) {
      for (const bool parse_special : {true, false}) {
        const EncodeOptions options = {.add_special = true, .parse_special = parse_special};
        const std::vector<TokenId> ids = a.encode(text, options);
        if (ids != b.encode(text, options)) return text;
        if (a.decode(ids) != b.decode(ids) || a.decode(ids, true) != b.decode(ids, true)) return text;
      }
    }
  }
  return std::nullopt;
}

}  // namespace mobilellm
