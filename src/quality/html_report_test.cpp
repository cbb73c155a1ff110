// The page: everything is escaped, elements are closed, nothing comes from outside; JSON beside it; the sample text.
#include "quality/html_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <string_view>

#include "base/json.h"
#include "base/utf8.h"
#include "quality/sample_text.h"

namespace mobilellm {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kHostile = "</td><script>alert(\"x\")</script><img src='http://example.org/a'>&\x01\xff";

QualityReport hostile_report() {
  QualityReport report;
  report.source = report.target = report.method = report.program = report.machine = kHostile;
  report.source_bits = 16;
  report.target_bits = 4.5;
  report.matrices.push_back({kHostile, kHostile, 1000, 563, 0.1, 0.002, 0.004});
  report.matrices.push_back({"small", "float", 0, 0, 0, {}, {}});
  TextComparison text;
  text.path = kHostile;
  text.n_positions = 10;
  text.kl = {0.25, 0.01};
  text.kl_median = 0.1;
  text.kl_p90 = 0.5;
  text.kl_p99 = 1;
  text.kl_max = 2;
  report.comparison.texts = {text, text};
  report.comparison.total = text;
  report.comparison.flips.push_back({0, 0, 3, 1, 2, 0.75, 0.1, 0.05, 0.6, 1.5});
  report.comparison.n_flips = 1;
  report.flips.push_back({kHostile, kHostile, kHostile, kHostile});
  report.answers.push_back({kHostile, kHostile, kHostile});
  report.speeds.push_back({kHostile, 100, 250});
  report.notes.emplace_back(kHostile);
  return report;
}

// Elements that are opened and never closed, or closed without being open, in the order they are found.
std::string imbalance(std::string_view html) {
  std::vector<std::string> open;
  for (size_t at = html.find('<'); at != std::string_view::npos; at = html.find('<', at + 1)) {
    const size_t end = html.find_first_of(" >", at);
    const std::string name(html.substr(at + 1, end - at - 1));
    if (name == "meta" || name == "!DOCTYPE") continue;
    if (name[0] != '/') {
      open.push_back(name);
    } else if (open.empty() || open.back() != name.substr(1)) {
      return name;
    } else {
      open.pop_back();
    }
  }
  return open.empty() ? "" : open.back();
}

TEST(HtmlReport, HostileTextStaysText) {
  const std::string html = quality_report_html(hostile_report());
  EXPECT_THAT(html, Not(HasSubstr("<script")));
  EXPECT_THAT(html, Not(HasSubstr("<img")));
  EXPECT_THAT(html, Not(HasSubstr("\x01")));
  EXPECT_THAT(html, AllOf(HasSubstr("default-src 'none'"), HasSubstr("&lt;script&gt;alert(&quot;x&quot;)")));
  EXPECT_TRUE(is_valid_utf8(html));
  EXPECT_EQ(imbalance(html), "");
}

TEST(HtmlReport, TellsTheNumbers) {
  QualityReport report = hostile_report();
  report.matrices[0].name = "layers.0.q_proj";
  report.answers[0].after = "forty-two";
  const std::string html = quality_report_html(report);
  for (const char* text : {"4.500", "0.25000", "layers.0.q_proj", "4.504", "forty-two", "2.50", "rounded to 4 bits"}) {
    EXPECT_THAT(html, HasSubstr(text));
  }
  // Bars are relative to the largest: KL percentiles of 0.1 and 2.
  EXPECT_THAT(html, AllOf(HasSubstr("width:5.00%"), HasSubstr("width:100.00%")));
}

TEST(HtmlReport, WithoutTextThereAreStillMatrices) {
  QualityReport report;
  report.target = "out";
  report.matrices.push_back({"a", "Q4_0", 32, 18, 0.25, {}, {}});
  const std::string html = quality_report_html(report);
  EXPECT_EQ(imbalance(html), "");
  EXPECT_THAT(html, AllOf(HasSubstr("Errors"), HasSubstr("Q4_0"), Not(HasSubstr("Answers"))));
}

TEST(HtmlReport, JsonSaysTheSame) {
  const Json json = Json::parse(quality_report_json(hostile_report()), "report");
  EXPECT_EQ(json.find("total")->find("kl_mean")->as_double(), 0.25);
  EXPECT_EQ(json.find("matrices")->as_array()[0].find("rounding_loss")->as_double(), 0.004);
  EXPECT_EQ(json.find("matrices")->as_array()[1].find("rounding_loss"), nullptr);
  EXPECT_EQ(json.find("tokens_per_second")->as_array()[0].find("after")->as_double(), 250);
  EXPECT_EQ(json.find("flips")->as_array().size(), 1U);
}

TEST(SampleText, IsPlainText) {
  EXPECT_TRUE(is_valid_utf8(kSampleText));
  EXPECT_GT(std::string_view(kSampleText).size(), 3000U);
  EXPECT_GE(sample_questions().size(), 3U);
}

}  // namespace
}  // namespace mobilellm
