// Help, version and misuse.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <sstream>

#include "tests/cli/program.h"

namespace mobilellm {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

const char* const kCommands[] = {"generate", "inspect", "convert",  "quantize", "summary", "perplexity",
                                 "compare",  "verify",  "tokenize", "template", "bench",   "doctor"};

void expect_one_error_line(const ProgramResult& result) {
  EXPECT_THAT(result.err, StartsWith("mobilellm: "));
  EXPECT_EQ(result.err.find('\n'), result.err.size() - 1) << result.err;
}

void expect_narrow(const std::string& text) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 80u) << line;
}

TEST(Help, GoesToStandardOutputInEightyColumns) {
  const ProgramResult result = run_program({"--help"});
  EXPECT_EQ(result.status, 0);
  EXPECT_EQ(result.err, "");
  expect_narrow(result.out);
  for (const char* command : kCommands) EXPECT_THAT(result.out, HasSubstr(command));
}

TEST(Help, OfEachCommandHasUsageFlagsAndExamples) {
  for (const char* command : kCommands) {
    for (const std::vector<std::string>& words : {std::vector<std::string>{command, "--help"}, {"help", command}}) {
      const ProgramResult result = run_program(words);
      EXPECT_EQ(result.status, 0) << command;
      EXPECT_EQ(result.err, "");
      EXPECT_THAT(result.out, StartsWith("usage: mobilellm " + std::string(command)));
      EXPECT_THAT(result.out, HasSubstr(std::string(command) == "doctor"    ? "--quick"
                                        : std::string(command) == "compare" ? "--text FILE"
                                                                            : "--model-path PATH"));
      EXPECT_THAT(result.out, HasSubstr("\nexamples:\n"));
      expect_narrow(result.out);
    }
  }
}

TEST(Help, NamesEveryFlagOfTheOriginal) {
  const std::string help = run_program({"generate", "--help"}).out;
  for (const char* flag : {"--model-path", "--prompt", "--max-tokens", "--temperature", "--top-p", "--system",
                           "--final-only", "--stop-at-boxed", "--extract-boxed", "--disable-chat-template",
                           "--repetition-penalty", "--frequency-penalty"}) {
    EXPECT_THAT(help, HasSubstr(std::string("  ") + (std::string(flag) == "--prompt" ? "-p, " : "") +
                                (std::string(flag) == "--max-tokens" ? "-n, " : "") + flag + " "));
  }
}

TEST(Version, IsQuick) {
  auto best = std::chrono::steady_clock::duration::max();
  for (int i = 0; i < 5; ++i) {
    const auto start = std::chrono::steady_clock::now();
    const ProgramResult result = run_program({"--version"});
    best = std::min(best, std::chrono::steady_clock::now() - start);
    EXPECT_EQ(result.status, 0);
    EXPECT_THAT(result.out, StartsWith("mobilellm 0."));
  }
  // Generous, for sanitizers and busy machines; a model or a table that is loaded at start would show.
  EXPECT_LT(best, std::chrono::milliseconds(300));
}

TEST(Misuse, OfCommandAndFlagsSuggestsWhatWasMeant) {
  const ProgramResult command = run_program({"generat"});
  EXPECT_EQ(command.status, 2);
  EXPECT_THAT(command.err, HasSubstr("did you mean 'generate'?"));
  expect_one_error_line(command);

  const ProgramResult flag = run_program({"generate", "--tempratur", "0"});
  EXPECT_EQ(flag.status, 2);
  EXPECT_THAT(flag.err, HasSubstr("unknown flag '--tempratur' (did you mean '--temperature'?)"));
  expect_one_error_line(flag);

  EXPECT_EQ(run_program({}).status, 2);
  EXPECT_EQ(run_program({"--no-such-flag"}).status, 2);
}

TEST(Misuse, NamesFlagValueAndRange) {
  struct Case {
    std::vector<std::string> words;
    const char* message;
  };
  const Case cases[] = {
      {{"generate", "--prompt", "x", "--max-tokens", "many"}, "--max-tokens: got 'many', expected an integer from -1"},
      {{"generate", "--prompt", "x", "--max-tokens=1.5"}, "--max-tokens: got '1.5'"},
      {{"generate", "--prompt", "x", "--max-tokens", "99999999999999999999"}, "--max-tokens: got"},
      {{"generate", "--prompt", "x", "--temperature", "nan"}, "--temperature: got 'nan', expected a number from 0"},
      {{"generate", "--prompt", "x", "--temperature", "-1"}, "--temperature: got '-1'"},
      {{"generate", "--prompt", "x", "--top-p", ""}, "--top-p: got ''"},
      {{"generate", "--prompt"}, "--prompt"},
      {{"generate"}, "--prompt is missing"},
      {{"generate", "--prompt", "x", "--loop-guard", "maybe"}, "--loop-guard: got 'maybe', expected on, off or auto"},
      {{"generate", "--prompt", "x", "stray"}, "unexpected argument 'stray'"},
      {{"generate", "--prompt", "x", "--", "--prompt"}, "unexpected argument '--prompt'"},
      {{"generate", "--prompt", "x", "--", "--loop-guard"}, "unexpected argument '--loop-guard"},
      {{"generate", "--model-path", "absent", "--prompt", "x", "--template-args", "{bad"},
       "--template-args: not valid"},
      {{"generate", "--model-path", "absent", "--prompt", "x", "--template-args", "[]"}, "expected a JSON object"},
      {{"generate", "--model-path", "absent", "--prompt", "ab\xff"}, "--prompt: not valid UTF-8 at byte 2"},
      {{"verify"}, "--reference is missing"},
      {{"convert"}, "the model to convert is missing"},
      {{"convert", "absent"}, "the target is missing"},
      {{"convert", "absent", "-o", "out"}, "--to is missing: hf, mlx or gguf"},
      {{"convert", "absent", "-o", "out", "--to", "pt"}, "--to: got 'pt', expected hf, mlx or gguf"},
      {{"convert", "absent", "-o", "out.gguf", "--dtype", "int8"}, "--dtype: got 'int8', expected f32, f16 or bf16"},
      {{"convert", "absent", "-o", "out.gguf", "--max-shard-size", "5XB"}, "--max-shard-size: got '5XB'"},
      {{"convert", "absent", "-o", "out", "--mlx-path", "out"}, "name two targets"},
      {{"convert", "absent", "--mlx-path", "out", "--to", "gguf"}, "--mlx-path writes mlx"},
      {{"template"}, "exactly one of --model-path and --file"},
      {{"template", "--file", "x", "--now", "tomorrow"}, "tomorrow"},
  };
  for (const Case& c : cases) {
    const ProgramResult result = run_program(c.words);
    EXPECT_EQ(result.status, 2) << c.message << "\n" << result.err;
    EXPECT_THAT(result.err, HasSubstr(c.message));
    EXPECT_EQ(result.out, "");
    expect_one_error_line(result);
  }
}

}  // namespace
}  // namespace mobilellm
