// Boxed answers and reasoning tags, whole and streamed in every split.
#include <gtest/gtest.h>

#include <fstream>

#include "base/json.h"
#include "chat/parsers/boxed.h"
#include "chat/parsers/reasoning.h"

namespace mobilellm {
namespace {

std::string content_of(std::string_view text) {
  const auto answer = find_last_boxed(text);
  return answer ? answer->content : "(none)";
}

TEST(Boxed, FindsTheLastAnswer) {
  EXPECT_EQ(content_of("\\boxed{42}"), "42");
  EXPECT_EQ(content_of("a \\boxed{1} b \\boxed{2} c"), "2");
  EXPECT_EQ(content_of("\\boxed  {\\frac{1}{2}}"), "\\frac{1}{2}");
  EXPECT_EQ(content_of("\\boxed{\\{1, 2\\}}"), "\\{1, 2\\}");
  EXPECT_EQ(content_of("\\boxed{\\}}"), "\\}");
  EXPECT_EQ(content_of("\\boxed{\\boxed{5}}"), "5");
  EXPECT_EQ(content_of("$\\boxed 7 $ and more"), "7");
  EXPECT_EQ(content_of("\\fbox{9}"), "9");
  EXPECT_EQ(content_of("\\boxed{1} \\fbox{9}"), "1");
  EXPECT_EQ(content_of("no box"), "(none)");
  EXPECT_EQ(content_of("\\boxed{3"), "(none)");
  EXPECT_EQ(content_of("\\boxed{1} then \\boxed{3"), "(none)");
  EXPECT_EQ(content_of("\\boxedx{3}"), "(none)");
  EXPECT_EQ(content_of("\\boxed"), "(none)");
  EXPECT_EQ(content_of(""), "(none)");
}

TEST(Boxed, PassesOverPlaceholders) {
  EXPECT_EQ(content_of("put it in \\boxed{}"), "(none)");
  EXPECT_EQ(content_of("put it in \\boxed{...} or \\boxed{ . }"), "(none)");
  EXPECT_EQ(content_of("\\boxed{7}, in \\boxed{} as asked"), "7");
  EXPECT_TRUE(is_boxed_placeholder(" . . . "));
  EXPECT_FALSE(is_boxed_placeholder("0"));
}

TEST(Boxed, MatchesGoldenAnswers) {
  const std::string path = MOBILELLM_SOURCE_DIR "/tests/vectors/math/boxed.jsonl";
  std::ifstream file(path);
  int n_rows = 0;
  for (std::string line; std::getline(file, line); ++n_rows) {
    const Json row = Json::parse(line, path);
    const std::string& text = row.find("prediction")->as_string();
    const auto box = find_last_box(text);
    const Json* expected = row.find("last_boxed");
    ASSERT_EQ(box.has_value(), expected->is_string()) << text;
    if (!box) continue;
    EXPECT_EQ(text.substr(box->begin, box->end - box->begin), expected->as_string());
    const Json* content = row.find("boxed_content");
    EXPECT_EQ(content->is_null(), box->is_fbox) << text;
    if (content->is_string()) {
      EXPECT_EQ(box->content, content->as_string());
    }
  }
  EXPECT_EQ(n_rows, 355);
}

std::vector<size_t> scan(std::string_view text, size_t piece_bytes) {
  BoxedScanner scanner;
  std::vector<size_t> ends;
  for (size_t at = 0; at < text.size(); at += piece_bytes) {
    if (const auto end = scanner.push(text.substr(at, piece_bytes))) ends.push_back(*end);
  }
  EXPECT_EQ(scanner.n_bytes(), text.size());
  return ends;
}

TEST(BoxedScanner, FindsTheEndInEverySplit) {
  const std::string text = "Use \\boxed{}. So \\\\boxed \n{\\frac{1}{2}\\}}. And more text";
  const size_t expected = text.find("}. And") + 1;
  for (size_t n = 1; n <= text.size(); ++n) EXPECT_EQ(scan(text, n), std::vector<size_t>{expected}) << n;
}

TEST(BoxedScanner, ReportsOneEndPerBox) {
  EXPECT_EQ(scan("\\boxed{1}\\boxed{2}", 1), (std::vector<size_t>{9, 18}));
  EXPECT_EQ(scan("\\boxed{\\boxed{5}} x", 1), (std::vector<size_t>{17}));
  EXPECT_EQ(scan("\\boxed{3", 1), (std::vector<size_t>{}));
  EXPECT_EQ(scan("\\boxed 7 {x}", 1), (std::vector<size_t>{}));
  EXPECT_EQ(scan("\\bo\\boxed{1}", 1), (std::vector<size_t>{12}));
  BoxedScanner scanner;
  scanner.push("\\boxed{");
  EXPECT_TRUE(scanner.is_inside_box());
}

TEST(BoxedScanner, IsLinear) {
  const std::string hostile(2'000'000, '{');
  EXPECT_TRUE(scan("\\boxed" + hostile, 7).empty());
  std::string many;
  for (int i = 0; i < 100'000; ++i) many += "\\boxed{} ";
  EXPECT_TRUE(scan(many, 3).empty());
  EXPECT_FALSE(find_last_boxed(many).has_value());
}

struct Split {
  std::string reasoning;
  std::string answer;
};

Split split(ReasoningConvention convention, bool starts_inside, std::string_view text, size_t piece_bytes) {
  ReasoningParser parser(convention, starts_inside);
  Split result;
  const auto add = [&](const ReasoningPiece& piece) {
    result.reasoning += piece.reasoning;
    result.answer += piece.answer;
  };
  for (size_t at = 0; at < text.size(); at += piece_bytes) add(parser.push(text.substr(at, piece_bytes)));
  add(parser.finish());
  return result;
}

void expect_split(bool starts_inside, std::string_view text, std::string_view reasoning, std::string_view answer) {
  for (size_t n = 1; n <= text.size(); ++n) {
    const Split result = split(ReasoningConvention::kThinkTags, starts_inside, text, n);
    EXPECT_EQ(result.reasoning, reasoning) << n << ": " << text;
    EXPECT_EQ(result.answer, answer) << n << ": " << text;
  }
}

TEST(Reasoning, SplitsAtTags) {
  expect_split(false, "<think>\nwhy\n\nso\n</think>\n\nyes\n", "why\n\nso", "yes\n");
  expect_split(false, " \n<think>a</think>b", "a", "b");
  expect_split(true, "why</thin</think>yes", "why</thin", "yes");
  expect_split(true, "cut off", "cut off", "");
  expect_split(false, "no tags <think>x</think>", "", "no tags <think>x</think>");
  expect_split(false, "\n<thing>", "", "\n<thing>");
  expect_split(false, "<thi", "", "<thi");
  expect_split(true, "</think>x</think>", "", "x</think>");
}

TEST(Reasoning, LeavesPlainTextAlone) {
  const Split result = split(ReasoningConvention::kNone, false, "\n<think>a</think>b", 1);
  EXPECT_EQ(result.answer, "\n<think>a</think>b");
  EXPECT_EQ(result.reasoning, "");
}

TEST(Reasoning, NeverGivesOutPartOfATag) {
  ReasoningParser parser(ReasoningConvention::kThinkTags, true);
  EXPECT_EQ(parser.push("abc</th").reasoning, "abc");
  EXPECT_TRUE(parser.is_inside());
  EXPECT_EQ(parser.push("ink>").reasoning, "");
  EXPECT_TRUE(parser.is_closed());
}

TEST(Reasoning, IsDetected) {
  EXPECT_EQ(detect_reasoning("{{ '<think>' }}"), ReasoningConvention::kThinkTags);
  EXPECT_EQ(detect_reasoning("content.split('</think>')"), ReasoningConvention::kThinkTags);
  EXPECT_EQ(detect_reasoning("plain"), ReasoningConvention::kNone);
  EXPECT_TRUE(ends_inside_reasoning(ReasoningConvention::kThinkTags, "<|assistant|><think>\n"));
  EXPECT_FALSE(ends_inside_reasoning(ReasoningConvention::kThinkTags, "<think>\n\n</think>\n\n"));
  EXPECT_FALSE(ends_inside_reasoning(ReasoningConvention::kNone, "<think>"));
}

}  // namespace
}  // namespace mobilellm
