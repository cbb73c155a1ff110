// Signals, pipes, terminals and colours.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include "tests/cli/program.h"

namespace mobilellm {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

// Runs until it is stopped: every token costs little, and nothing ends it.
const std::vector<std::string> kEndless = {
    "generate",     "--model-path", golden("e2e/r1_chat"), "--prompt",     "Hello", "--temperature", "0",
    "--max-tokens", "-1",           "--ignore-eos",        "--loop-guard", "off"};

TEST(Signals, EndGenerationInOrderWithTheirStatus) {
  for (const auto& [signal, status] : {std::pair{SIGINT, 130}, std::pair{SIGTERM, 143}}) {
    RunningProgram program(kEndless);
    program.read_output(1);
    program.send_signal(signal);
    const ProgramResult result = program.wait();
    EXPECT_EQ(result.status, status);
    EXPECT_THAT(result.err, HasSubstr("stop: cancelled"));
    EXPECT_TRUE(result.out.ends_with('\n'));
  }
}

TEST(Signals, EndOtherCommandsAtOnce) {
  RunningProgram program({"tokenize", "--model-path", golden("e2e/r1_chat"), "--jsonl"});
  program.write_input("{\"text\": \"a\"}\n");
  program.read_output(1);
  program.send_signal(SIGINT);
  EXPECT_EQ(program.wait().status, 130);
}

TEST(Pipes, AReaderThatGoesAwayEndsItQuietly) {
  RunningProgram program(kEndless);
  program.read_output(1);
  program.close_output();
  const ProgramResult result = program.wait();
  EXPECT_EQ(result.status, 141);
  EXPECT_EQ(result.err, "");
}

TEST(Pipes, ClosedStandardOutputIsAnError) {
  ProgramOptions options;
  options.close_stdout = true;
  const ProgramResult result = run_program({"--help"}, options);
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(result.err, HasSubstr("cannot write to standard output"));
}

TEST(Pipes, ClosedStandardInputIsAnErrorAndNotAModelFile) {
  ProgramOptions options;
  const ProgramResult result =
      run_program({"tokenize", "--model-path", golden("e2e/r1_chat"), "--file", "/nonexistent"}, options);
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(result.err, HasSubstr("/nonexistent"));
}

TEST(Colours, FollowTheEnvironment) {
  const std::vector<std::string> misuse = {"nonsense"};
  const char* const kRed = "\x1b[1;31mmobilellm:";
  ProgramOptions terminal;
  terminal.stderr_on_terminal = true;
  EXPECT_THAT(run_program(misuse).err, StartsWith("mobilellm: "));
  EXPECT_THAT(run_program(misuse, terminal).err, StartsWith(kRed));
  terminal.environment = {{"NO_COLOR", "1"}};
  EXPECT_THAT(run_program(misuse, terminal).err, StartsWith("mobilellm: "));
  terminal.environment = {{"TERM", "dumb"}};
  EXPECT_THAT(run_program(misuse, terminal).err, StartsWith("mobilellm: "));
  EXPECT_THAT(run_program(misuse, {.environment = {{"CLICOLOR_FORCE", "1"}}}).err, StartsWith(kRed));
  EXPECT_THAT(run_program(misuse, {.environment = {{"CLICOLOR_FORCE", "1"}, {"NO_COLOR", "1"}}}).err,
              StartsWith("mobilellm: "));
}

TEST(Terminal, ProgressIsDrawnOnlyThereAndFitsIt) {
  ProgramOptions terminal;
  terminal.stderr_on_terminal = true;
  const std::vector<std::string> words = {
      "generate", "--model-path", golden("e2e/r1_chat"), "--prompt", "x", "--max-tokens", "1"};
  const std::string drawn = run_program(words, terminal).err;
  EXPECT_THAT(drawn, AllOf(HasSubstr("\rloading ["), HasSubstr("\r\x1b[K")));
  size_t begin = 0;
  for (size_t at = drawn.find('\r'); at < drawn.rfind("\x1b[K"); at = drawn.find('\r', begin)) {
    EXPECT_LE(at - begin, 60u);
    begin = at + 1;
  }
  EXPECT_THAT(run_program(words).err, Not(HasSubstr("loading")));
}

TEST(Terminal, MessagesCannotDriveIt) {
  const ProgramResult result = run_program({"inspect", "/nonexistent/\x1b[2J\x07\nname"});
  EXPECT_EQ(result.status, 1);
  EXPECT_EQ(result.err.find('\x1b'), std::string::npos);
  EXPECT_THAT(result.err, HasSubstr("\\x1b[2J"));
  EXPECT_EQ(result.err.find('\n'), result.err.size() - 1);
}

}  // namespace
}  // namespace mobilellm
