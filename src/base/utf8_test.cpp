#include "base/utf8.h"

#include <gtest/gtest.h>

namespace mobilellm {
namespace {

TEST(Utf8, RoundTripsEveryCodePoint) {
  for (char32_t c = 0; c <= 0x10FFFF; ++c) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    std::string text;
    append_utf8(text, c);
    const Utf8Char decoded = decode_utf8(text, 0);
    ASSERT_TRUE(decoded.is_valid);
    ASSERT_EQ(decoded.code_point, c);
    ASSERT_EQ(static_cast<size_t>(decoded.n_bytes), text.size());
    for (size_t cut = 1; cut < text.size(); ++cut) ASSERT_EQ(incomplete_utf8_tail(text.substr(0, cut)), cut);
  }
}

TEST(Utf8, ReplacesEachMaximalIllFormedSubpartOnce) {
  EXPECT_EQ(repair_utf8("a\xF0\x9F\x91z"), "a\xEF\xBF\xBDz");
  EXPECT_EQ(repair_utf8("\xED\xA0\x80"), "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");
  EXPECT_EQ(repair_utf8("\xC0\xAF"), "\xEF\xBF\xBD\xEF\xBF\xBD");
  EXPECT_FALSE(is_valid_utf8("\xF4\x90\x80\x80"));
}

}  // namespace
}  // namespace mobilellm
