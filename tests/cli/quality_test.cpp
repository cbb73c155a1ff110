// mobilellm perplexity and compare: results, arithmetic, JSON, misuse.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/json.h"
#include "tests/cli/program.h"

namespace mobilellm {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::string sums(int n) {
  std::string text;
  for (int i = 0; i < n; ++i) text += std::to_string(i) + " + 17 = " + std::to_string(i + 17) + "\n";
  return text;
}

TEST(Perplexity, TellsEachTextAndTheTotal) {
  const ScratchDir folder;
  folder.write("a.txt", sums(40));
  folder.write("b.jsonl", "{\"text\": \"One and two are three, and that is it.\"}\n");
  const std::vector<std::string> words = {"perplexity",
                                          "--model-path",
                                          golden("e2e/r1_chat"),
                                          "--text",
                                          folder.path("a.txt"),
                                          folder.path("b.jsonl"),
                                          "--chunk",
                                          "64"};
  const ProgramResult result = run_program(words);
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.out, AllOf(HasSubstr("\na.txt"), HasSubstr("\nb.jsonl"), HasSubstr("\ntotal")));

  std::vector<std::string> json_words = words;
  json_words.insert(json_words.end(), {"--json", "--max-chunks", "2"});
  const Json report = Json::parse(run_program(json_words).out, "output");
  const Json::Array& texts = report.find("texts")->as_array();
  ASSERT_EQ(texts.size(), 2U);
  EXPECT_EQ(texts[0].find("chunks")->as_int(), 2);
  EXPECT_EQ(texts[0].find("predicted_tokens")->as_int(), 126);
  EXPECT_GT(texts[0].find("left_out_tokens")->as_int(), 0);
  EXPECT_EQ(texts[1].find("chunks")->as_int(), 1);
  EXPECT_GT(report.find("total")->find("perplexity")->as_double(), 1000);  // Of random weights.
}

TEST(Compare, TellsWhatAQuantizedModelLoses) {
  const ScratchDir folder;
  folder.write("a.txt", sums(60));
  ASSERT_EQ(
      run_program({"quantize", golden("e2e/r1_chat"), "-o", folder.path("q"), "--bits", "3", "--group-size", "32"})
          .status,
      0);
  const std::vector<std::string> words = {
      "compare", golden("e2e/r1_chat"), folder.path("q"), "--text", folder.path("a.txt"), "--chunk", "128", "--flips",
      "2"};
  const ProgramResult result = run_program(words);
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.out, AllOf(HasSubstr("32.000 bits per weight, exact, kv f32"), HasSubstr("KL p99"),
                                HasSubstr("the most likely token differs at"), HasSubstr("  A: '")));
  std::vector<std::string> json_words = words;
  json_words.emplace_back("--json");
  const Json report = Json::parse(run_program(json_words).out, "output");
  const Json& total = *report.find("total");
  EXPECT_GT(total.find("kl_mean")->as_double(), 1e-4);
  EXPECT_GT(total.find("kl_error")->as_double(), 0);
  EXPECT_GE(total.find("kl_p99")->as_double(), total.find("kl_median")->as_double());
  EXPECT_LT(total.find("top1_agreement")->as_double(), 1);
  EXPECT_EQ(report.find("flips")->as_array().size(), 2U);
  EXPECT_FALSE(report.find("flips")->as_array()[0].find("before")->as_string().empty());
  EXPECT_LT(report.find("b")->find("bits_per_weight")->as_double(), 10);
}

TEST(Compare, OneModelWithOtherArithmetic) {
  const ScratchDir folder;
  folder.write("a.txt", sums(60));
  const auto kl = [&](const std::vector<std::string>& more) {
    std::vector<std::string> words = {"compare", golden("e2e/r1_chat"), golden("e2e/r1_chat"),
                                      "--text",  folder.path("a.txt"),  "--json"};
    words.insert(words.end(), more.begin(), more.end());
    const ProgramResult result = run_program(words);
    EXPECT_EQ(result.status, 0) << result.err;
    return Json::parse(result.out, "output").find("total")->find("kl_mean")->as_double();
  };
  EXPECT_LT(kl({}), 1e-12);
  EXPECT_LT(kl({"--a-kv", "q8", "--b-kv", "q8"}), 1e-12);
  EXPECT_GT(kl({"--b-kv", "q8"}), 1e-7);
  EXPECT_GT(kl({"--a-kv", "q8"}), 1e-7);
}

TEST(Compare, Misuse) {
  const ScratchDir folder;
  folder.write("a.txt", sums(10));
  folder.write("bad.txt", "abc\xff\xfe");
  folder.write("empty.txt", "");
  const std::string model = golden("e2e/r1_chat");
  const auto fails = [&](const std::vector<std::string>& words, int status, const char* message) {
    const ProgramResult result = run_program(words);
    EXPECT_EQ(result.status, status) << message;
    EXPECT_THAT(result.err, HasSubstr(message));
    EXPECT_EQ(result.out, "");
  };
  fails({"compare"}, 2, "models A and B are missing");
  fails({"compare", model}, 2, "model B is missing");
  fails({"compare", model, model}, 2, "the text is missing");
  fails({"perplexity", "--model", model}, 2, "the text is missing");
  fails({"compare", model, model, "--text", folder.path("empty.txt")}, 2, "got 0 tokens");
  fails({"compare", model, model, "--text", folder.path("bad.txt")}, 1, "byte 3 (line 1) is not UTF-8");
  fails({"compare", model, model, "--text", folder.path("none.txt")}, 1, "none.txt");
  fails({"compare", model, golden("models/smollm2_like"), "--text", folder.path("a.txt")}, 2, "vocabularies");
  fails({"compare", model, model, "--text", folder.path("a.txt"), "--b-arithmetic", "fast"}, 2, "--b-arithmetic");
  fails({"compare", model, model, "--text", folder.path("a.txt"), "--b-kv", "q3"}, 2, "--b-kv: got q3");
  fails({"compare", model, model, "--text", folder.path("a.txt"), "--chunk", "1"}, 2, "--chunk");
  fails({"perplexity", "--model", model, "--text", folder.path("a.txt"), "--chunk", "x"}, 2, "--chunk");
}

}  // namespace
}  // namespace mobilellm
