// Borders of tokens, held-back text and limits of stop strings.
#include "pipeline/stop_strings.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/random.h"

namespace mobilellm {
namespace {

// Output for a text pushed in pieces whose lengths come from `seed`.
std::pair<std::string, std::string> run(const std::string& text, std::vector<std::string> stops, uint64_t seed) {
  StopStrings stop_strings(std::move(stops));
  std::string out;
  for (size_t i = 0; i < text.size();) {
    const size_t n = 1 + random_bits(seed, 0, i) % 5;
    out += stop_strings.push(std::string_view(text).substr(i, n));
    i += n;
  }
  out += stop_strings.finish();
  return {out, stop_strings.found()};
}

TEST(StopStrings, AreFoundAcrossAnyBordersAndNeverShown) {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    EXPECT_EQ(run("Hello <end> world", {"<end>"}, seed), std::pair(std::string("Hello "), std::string("<end>")));
    EXPECT_EQ(run("aaab", {"aab"}, seed), std::pair(std::string("a"), std::string("aab")));
    EXPECT_EQ(run("no stop <en", {"<end>", ""}, seed), std::pair(std::string("no stop <en"), std::string()));
    EXPECT_EQ(run("x\n\nUser: y", {"\nUser:", "User:"}, seed), std::pair(std::string("x\n"), std::string("\nUser:")));
  }
}

TEST(StopStrings, DoNotDependOnTheSplit) {
  for (uint64_t seed = 0; seed < 300; ++seed) {
    std::string text;
    for (uint64_t i = 0; i < 60; ++i) text += static_cast<char>('a' + random_bits(seed, 1, i) % 2);
    const std::vector<std::string> stops = {"aabaab", "babb", "abbbb", "bbb" + std::string(1, 'a')};
    // By definition: the earliest end, then the longest.
    size_t end = std::string::npos;
    std::string expected;
    for (const std::string& stop : stops) {
      const size_t at = text.find(stop);
      if (at == std::string::npos) continue;
      if (at + stop.size() < end || (at + stop.size() == end && stop.size() > expected.size())) {
        end = at + stop.size();
        expected = stop;
      }
    }
    const auto [shown, found] = run(text, stops, seed);
    EXPECT_EQ(found, expected);
    EXPECT_EQ(shown, found.empty() ? text : text.substr(0, end - found.size()));
  }
}

TEST(StopStrings, HoldBackOnlyWhatMayStillMatch) {
  StopStrings stop_strings({"###"});
  EXPECT_EQ(stop_strings.push("abc"), "abc");
  EXPECT_EQ(stop_strings.push("#"), "");
  EXPECT_EQ(stop_strings.push("d"), "#d");
  EXPECT_EQ(stop_strings.push("##"), "");
  EXPECT_EQ(stop_strings.push("#e"), "");
  EXPECT_TRUE(stop_strings.is_found());
  EXPECT_EQ(stop_strings.push("more"), "");
}

TEST(StopStrings, RefusesTooManyOrTooLong) {
  EXPECT_THROW(StopStrings(std::vector<std::string>(65, "x")), Error);
  EXPECT_THROW(StopStrings({std::string(5000, 'x')}), Error);
}

}  // namespace
}  // namespace mobilellm
