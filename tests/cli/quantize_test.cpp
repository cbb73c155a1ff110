// mobilellm quantize: both kinds of target, the JSON report, progress and misuse.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <thread>

#include "base/json.h"
#include "tests/cli/program.h"

namespace mobilellm {
namespace {

using ::testing::HasSubstr;

TEST(Quantize, WritesFoldersThatRun) {
  const ScratchDir folder;
  const ProgramResult result =
      run_program({"quantize", golden("e2e/r1_chat"), "-o", folder.path("out"), "--bits", "6", "--group-size", "32",
                   "--method", "gptq", "--calibration", golden("e2e/README.md"), "--json"});
  EXPECT_EQ(result.status, 0) << result.err;
  const Json report = Json::parse(result.out, "output");
  EXPECT_EQ(report.find("method")->as_string(), "gptq");
  EXPECT_GT(report.find("calibration_tokens")->as_int(), 0);
  EXPECT_EQ(report.find("matrices")->as_array().size(), 22U);
  const ProgramResult answer =
      run_program({"generate", "--model-path", folder.path("out"), "--prompt", "hello", "--max-tokens", "3"});
  EXPECT_EQ(answer.status, 0) << answer.err;
  const ProgramResult summary = run_program({"summary", folder.path("out")});
  EXPECT_THAT(summary.out, HasSubstr("6 bits"));
}

TEST(Quantize, WritesGguf) {
  const ScratchDir folder;
  const ProgramResult result =
      run_program({"quantize", golden("models/llama_tied"), "-o", folder.path("out.gguf"), "--type", "Q8_0"});
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("matrices by rtn"));
}

TEST(Quantize, ReportsWhatItChanged) {
  const ScratchDir folder;
  folder.write("text.txt", "One and two are three. Three and four are seven, and that is more than five.\n");
  const std::string page = folder.path("report.html");
  std::vector<std::string> words = {
      "quantize",      golden("e2e/r1_chat"),  "-o", folder.path("out"), "--bits", "4", "--report", page,
      "--report-text", folder.path("text.txt")};
  const ProgramResult result = run_program(words);
  EXPECT_EQ(result.status, 0) << result.err;
  const std::string html = read_text(page);
  for (const char* text : {"<h1>out", "text.txt", "Answers", "Speed on this machine", "q_proj", "affine 4 bits"}) {
    EXPECT_THAT(html, HasSubstr(text));
  }
  const Json json = Json::parse(read_text(folder.path("report.json")), "report");
  EXPECT_GT(json.find("total")->find("kl_mean")->as_double(), 0);
  EXPECT_EQ(json.find("matrices")->as_array().size(), 22U);
  for (const Json& matrix : json.find("matrices")->as_array()) EXPECT_GT(matrix.find("bytes")->as_int(), 0);
  EXPECT_EQ(json.find("answers")->as_array().size(), 5U);
  EXPECT_EQ(json.find("tokens_per_second")->as_array().size(), 2U);

  words[3] = folder.path("other");
  const ProgramResult again = run_program(words);
  EXPECT_EQ(again.status, 2);
  EXPECT_THAT(again.err, HasSubstr("exists already"));
}

TEST(Quantize, MixesByRecipeOverrideAndTarget) {
  const ScratchDir folder;
  ProgramResult result = run_program({"quantize", golden("e2e/r1_chat"), "-o", folder.path("recipe"), "--recipe",
                                      "mixed_3_6", "--override", "*layers.1*=8:32", "--json"});
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("affine 3 bits, group 64"));
  EXPECT_THAT(result.out, HasSubstr("affine 8 bits, group 32"));
  result = run_program({"quantize", golden("e2e/r1_chat"), "-o", folder.path("target"), "--target-bpw", "12",
                        "--calibration-tokens", "1024"});
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("matrices by dwq"));
}

// Nothing has the final name, and the same command finishes the work.
TEST(Quantize, InterruptedRunsContinue) {
  const ScratchDir folder;
  std::vector<std::string> words = {"quantize", golden("e2e/r1_chat"),  "-o",  folder.path("whole"), "--target-bpw",
                                    "12",       "--calibration-tokens", "1024"};
  EXPECT_EQ(run_program(words).status, 0);
  for (const int signal : {SIGINT, SIGKILL, SIGTERM}) {
    const std::string name = std::to_string(signal);
    const std::string kept = folder.path("." + name + ".unfinished");
    words[3] = folder.path(name);
    RunningProgram program(words);
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (!std::filesystem::exists(kept + "/plan.part") && std::chrono::steady_clock::now() < give_up) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    program.send_signal(signal);
    const ProgramResult result = program.wait();
    EXPECT_EQ(result.status, 128 + signal);
    EXPECT_FALSE(std::filesystem::exists(words[3]));
    EXPECT_TRUE(std::filesystem::exists(kept + "/plan.part"));
    if (signal != SIGKILL) {
      EXPECT_THAT(result.err, HasSubstr("run the same command again to continue"));
    }
    const ProgramResult last = run_program(words);
    EXPECT_EQ(last.status, 0) << last.err;
    EXPECT_EQ(read_text(words[3] + "/model.safetensors"), read_text(folder.path("whole/model.safetensors")));
    EXPECT_EQ(read_text(words[3] + "/config.json"), read_text(folder.path("whole/config.json")));
    EXPECT_FALSE(std::filesystem::exists(kept));
  }
}

// Killed after any time: either nothing or the whole has the final name.
TEST(Quantize, KilledRunsLeaveAllOrNothing) {
  const ScratchDir folder;
  for (const bool is_convert : {false, true}) {
    const std::string target = folder.path(is_convert ? "out.gguf" : "out");
    std::vector<std::string> words = {is_convert ? "convert" : "quantize", golden("e2e/r1_chat"), "-o", target};
    EXPECT_EQ(run_program(words).status, 0);
    const bool is_file = std::filesystem::is_regular_file(target);
    const std::string expected = read_text(is_file ? target : target + "/model.safetensors");
    int n_killed = 0;
    for (int milliseconds = 0; milliseconds < 40; milliseconds += 2) {
      std::filesystem::remove_all(target);
      RunningProgram program(words);
      std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
      program.send_signal(SIGKILL);
      program.wait();
      if (!std::filesystem::exists(target)) {
        ++n_killed;
        continue;
      }
      EXPECT_EQ(read_text(is_file ? target : target + "/model.safetensors"), expected);
      EXPECT_EQ(run_program({"inspect", target}).status, 0);
    }
    EXPECT_GT(n_killed, 0);
  }
}

TEST(Quantize, Misuse) {
  const ScratchDir folder;
  const auto fails = [&](std::vector<std::string> arguments, const char* message) {
    arguments.insert(arguments.begin(), {"quantize", golden("e2e/r1_chat")});
    const ProgramResult result = run_program(arguments);
    EXPECT_EQ(result.status, 2) << message;
    EXPECT_THAT(result.err, HasSubstr(message));
  };
  fails({}, "the target is missing");
  fails({"-o", folder.path("a.gguf")}, "--type is missing");
  fails({"-o", folder.path("a"), "--type", "Q4_K"}, "--type is for GGUF");
  fails({"-o", folder.path("a.gguf"), "--type", "Q9"}, "expected one of Q4_0");
  fails({"-o", folder.path("a.gguf"), "--type", "Q4_K", "--bits", "4"}, "are for mlx-lm folders");
  fails({"-o", folder.path("a"), "--mode", "int4"}, "expected affine, mxfp4, nvfp4 or mxfp8");
  fails({"-o", folder.path("a"), "--bits", "7"}, "bits");
  fails({"-o", folder.path("a"), "--method", "magic"}, "expected rtn, fit, gptq, yaqa or dwq");
  fails({"-o", folder.path("a"), "--report", folder.path("a.txt")}, "ends in .html");
  fails({"-o", folder.path("a"), "--report-text", folder.path("a.txt")}, "needs --report");
  fails({"-o", folder.path("a"), "--report", folder.path("a.html"), "--report-text", "/none"}, "/none does not exist");
  fails({"-o", folder.path("a"), "--recipe", "mixed_9"}, "expected one of mixed_2_6");
  fails({"-o", folder.path("a"), "--target-bpw", "4", "--bits", "3"}, "chooses bits itself");
  fails({"-o", folder.path("a"), "--override", "x"}, "PATTERN=SETTING");
}

}  // namespace
}  // namespace mobilellm
