// Normalization forms on the cases that implementations get wrong.
#include "tokenizer/unicode_normalize.h"

#include <gtest/gtest.h>

namespace mobilellm::unicode {
namespace {

TEST(UnicodeNormalize, ComposesAndDecomposes) {
  const auto nfc = [](std::string_view text) { return normalize(text, NormalForm::kNfc); };
  const auto nfd = [](std::string_view text) { return normalize(text, NormalForm::kNfd); };
  EXPECT_EQ(nfc(""), "");
  EXPECT_EQ(nfc("plain text"), "plain text");
  EXPECT_EQ(nfc("e\u0301"), "\u00E9");
  EXPECT_EQ(nfd("\u00E9x"), "e\u0301x");
  EXPECT_EQ(nfc("a\u0323\u0307"), "\u1EA1\u0307");
  EXPECT_EQ(nfc("a\u0307\u0323"), "\u1EA1\u0307");  // Sorted by combining class first.
  EXPECT_EQ(nfc("\u1E0B\u0323"), "\u1E0D\u0307");   // Taken apart and put together otherwise.
  EXPECT_EQ(nfc("\u212B"), "\u00C5");               // A singleton never comes back.
  EXPECT_EQ(nfc("\u0958"), "\u0915\u093C");         // Excluded from composition.
  EXPECT_EQ(nfc("\u1112\u1161\u11AB"), "\uD55C");   // Hangul.
  EXPECT_EQ(nfd("\uD55C"), "\u1112\u1161\u11AB");
  EXPECT_EQ(nfc("\uAC00\u11A8"), "\uAC01");
  EXPECT_EQ(nfc("\u0301e"), "\u0301e");
  EXPECT_EQ(nfc("e\u0301e\u0301"), "\u00E9\u00E9");
  EXPECT_EQ(nfc("\U000110A5\U000110BA"), "\U000110AB");
}

TEST(UnicodeNormalize, FoldsCompatibilityCharacters) {
  EXPECT_EQ(normalize("\uFB01\u00B2\u2460", NormalForm::kNfkc), "fi21");
  EXPECT_EQ(normalize("\uFF21e\u0301", NormalForm::kNfkc), "A\u00E9");
  EXPECT_EQ(normalize("\u1E9B\u0323", NormalForm::kNfkd), "s\u0323\u0307");
  EXPECT_EQ(normalize("\u1E9B\u0323", NormalForm::kNfkc), "\u1E69");
}

TEST(UnicodeNormalize, LowersAndStrips) {
  EXPECT_EQ(lower_case("ABC \u00C9\u0130\u03A3 \U00010400"), "abc \u00E9i\u0307\u03C3 \U00010428");
  EXPECT_EQ(strip_accents("e\u0301\u0323x\u20DD"), "ex");
  EXPECT_EQ(strip_accents("\u07FD\u1CF2"), "\u07FD");
}

// A megabyte of marks sorts in one go.
TEST(UnicodeNormalize, StaysFastOnMarks) {
  std::string text;
  for (int i = 0; i < 250000; ++i) text += "\u0301\u0323";
  const std::string sorted = normalize(text, NormalForm::kNfc);
  EXPECT_EQ(sorted.size(), text.size());
  EXPECT_TRUE(sorted.starts_with("\u0323\u0323"));
}

}  // namespace
}  // namespace mobilellm::unicode
