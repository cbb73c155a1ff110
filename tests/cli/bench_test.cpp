// mobilellm bench on tiny random weights and on a tiny model.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>

#include "base/json.h"
#include "tests/cli/program.h"

namespace mobilellm {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

std::vector<std::string> with_tiny(std::vector<std::string> rest) {
  std::vector<std::string> words = {"bench", "--shape", "tiny", "-r", "2", "--no-limits"};
  words.insert(words.end(), rest.begin(), rest.end());
  return words;
}

TEST(Bench, JsonHasOneObjectPerTest) {
  const ProgramResult result = run_program(with_tiny(
      {"-p", "32", "-n", "4", "-d", "0,100", "-B", "1,3", "--shared-prompt", "70", "--threads", "1", "--json"}));
  ASSERT_EQ(result.status, 0) << result.err;
  const Json rows = Json::parse(result.out, "output");
  std::vector<std::string> names;
  for (const Json& row : rows.as_array()) names.push_back(row.find("test")->as_string());
  EXPECT_EQ(names, (std::vector<std::string>{"pp32", "pp32@100", "tg4", "tg4@100", "tg4x3", "tg4x3@100"}));
  const Json& row = rows.as_array().back();
  for (const char* key : {"test",
                          "shape",
                          "format",
                          "head_format",
                          "threads",
                          "isa",
                          "tps",
                          "tps_min",
                          "tps_max",
                          "samples",
                          "gb_per_s",
                          "share_of_bandwidth",
                          "gops",
                          "share_of_peak",
                          "n_params",
                          "weight_bytes",
                          "kv_bytes_per_token",
                          "first_token_s",
                          "peak_memory_mb",
                          "cpu",
                          "version"}) {
    EXPECT_NE(row.find(key), nullptr) << key;
  }
  EXPECT_EQ(row.find("threads")->as_int(), 1);
  EXPECT_EQ(row.find("samples")->as_array().size(), 2u);
  EXPECT_GT(row.find("tps")->as_double(), 0);
  EXPECT_LE(row.find("tps_min")->as_double(), row.find("tps_max")->as_double());
}

TEST(Bench, LinesAndCsvHaveOneRowEach) {
  const ProgramResult lines = run_program(with_tiny({"-p", "8", "-n", "2", "--jsonl"}));
  ASSERT_EQ(lines.status, 0) << lines.err;
  std::istringstream in(lines.out);
  int n_lines = 0;
  for (std::string line; std::getline(in, line); ++n_lines) {
    EXPECT_TRUE(Json::parse(line, "line").find("tps")->is_number());
  }
  EXPECT_EQ(n_lines, 2);
  const ProgramResult csv = run_program(with_tiny({"-n", "2", "--csv"}));
  EXPECT_THAT(csv.out, StartsWith("test,shape,format,"));
  EXPECT_THAT(csv.out, HasSubstr("\ntg2,tiny,q4_0,"));
}

TEST(Bench, TableFitsEightyColumns) {
  const ProgramResult result = run_program(with_tiny({"--format", "affine4g32", "--head-format", "q8_0", "-n", "2"}));
  ASSERT_EQ(result.status, 0) << result.err;
  std::istringstream in(result.out);
  for (std::string line; std::getline(in, line);) EXPECT_LE(line.size(), 80u) << line;
  EXPECT_THAT(result.out, HasSubstr("affine4g32, head q8_0"));
  EXPECT_THAT(result.out, HasSubstr("\ntg2 "));
}

TEST(Bench, MeasuresAModelFromItsFiles) {
  const ProgramResult result = run_program(
      {"bench", "--model-path", golden("e2e/r1_chat"), "-p", "0", "-n", "2", "-r", "1", "--json"});  // With limits.
  ASSERT_EQ(result.status, 0) << result.err;
  const Json rows = Json::parse(result.out, "output");
  EXPECT_EQ(rows.as_array().at(0).find("model")->as_string(), golden("e2e/r1_chat"));
  for (const char* key : {"first_token_s", "bandwidth_gb_per_s", "bandwidth_large_gb_per_s", "peak_gops",
                          "share_of_bandwidth", "share_of_peak"}) {
    EXPECT_GT(rows.as_array().at(0).find(key)->as_double(), 0) << key;
  }
}

TEST(Bench, ExactUsesF32ThroughoutAndItsPeak) {
  const ProgramResult result =
      run_program({"bench", "--shape", "tiny", "--exact", "-r", "1", "-p", "0", "-n", "2", "--json"});
  ASSERT_EQ(result.status, 0) << result.err;
  const Json rows = Json::parse(result.out, "output");
  const Json& row = rows.as_array().at(0);
  EXPECT_TRUE(row.find("exact")->as_bool());
  EXPECT_EQ(row.find("kv")->as_string(), "f32");
  EXPECT_EQ(row.find("kv_bytes_per_token")->as_int(), 1024);
  EXPECT_EQ(row.find("peak_kind")->as_string(), "f32");
}

TEST(Bench, WritesAPicture) {
  const ScratchDir folder;
  const ProgramResult result =
      run_program({"bench", "--shape", "tiny", "-r", "1", "-n", "2", "--svg", folder.path("roofline.svg")});
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(read_text(folder.path("roofline.svg")), HasSubstr("tg2  "));
}

TEST(Bench, FormatsStandSideBySide) {
  const ProgramResult text = run_program(with_tiny({"-p", "8", "-n", "2", "--format", "affine2g32,q8_0"}));
  ASSERT_EQ(text.status, 0) << text.err;
  EXPECT_THAT(text.out, HasSubstr("\ntokens/s              MB           pp8           tg2\naffine2g32 "));
  EXPECT_THAT(text.out, HasSubstr("\nq8_0  "));
  const ProgramResult json = run_program(with_tiny({"-p", "0", "-n", "2", "--format", "affine2g32,q8_0", "--json"}));
  ASSERT_EQ(json.status, 0) << json.err;
  const Json rows = Json::parse(json.out, "output");
  ASSERT_EQ(rows.as_array().size(), 2U);
  EXPECT_EQ(rows.as_array().at(0).find("format")->as_string(), "affine2g32");
  EXPECT_EQ(rows.as_array().at(1).find("format")->as_string(), "q8_0");
  const ProgramResult csv = run_program(with_tiny({"-p", "0", "-n", "2", "--format", "affine2g32,q8_0", "--csv"}));
  EXPECT_EQ(std::count(csv.out.begin(), csv.out.end(), '\n'), 3);
}

TEST(Bench, RefusesImpossibleFlagsBeforeAnyWork) {
  const auto message = [](const std::vector<std::string>& words) {
    const ProgramResult result = run_program(words);
    EXPECT_EQ(result.status, 2) << result.err;
    return result.err;
  };
  EXPECT_THAT(message({"bench"}), HasSubstr("expected one of --model-path and --shape"));
  EXPECT_THAT(message({"bench", "--shape", "tiny", "--model-path", "x"}), HasSubstr("expected one of"));
  EXPECT_THAT(message({"bench", "--shape", "7b"}), HasSubstr("135m, 140m, 360m, 950m"));
  EXPECT_THAT(message(with_tiny({"--format", "q9"})), HasSubstr("unknown weight format 'q9'"));
  EXPECT_THAT(message(with_tiny({"--format", "q4_0,"})), HasSubstr("unknown weight format ''"));
  EXPECT_THAT(message({"bench", "--shape", "tiny", "--format", "q4_0,q8_0", "--svg", "x.svg"}),
              HasSubstr("draws one format"));
  EXPECT_THAT(message(with_tiny({"--format", "q4_k"})), HasSubstr("do not divide into blocks of 256"));
  EXPECT_THAT(message(with_tiny({"-p", "8,x"})), HasSubstr("--prompt-tokens: got '8,x'"));
  EXPECT_THAT(message(with_tiny({"-d", "-1"})), HasSubstr("--depth"));
  EXPECT_THAT(message(with_tiny({"-B", "0"})), HasSubstr("--batch: got '0'"));
  EXPECT_THAT(message(with_tiny({"-p", "0", "-n", "0"})), HasSubstr("no test is left"));
  EXPECT_THAT(message(with_tiny({"--svg", "x.svg"})), HasSubstr("--no-limits"));
  EXPECT_THAT(message(with_tiny({"--json", "--csv"})), HasSubstr("exclude each other"));
}

}  // namespace
}  // namespace mobilellm
