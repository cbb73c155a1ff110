// The commands of README.md and docs/cli.md do what they say.
#include <gtest/gtest.h>

#include <sstream>

#include "base/files.h"
#include "tests/cli/program.h"

namespace mobilellm {
namespace {

// Lines of the ```sh blocks that call the program, continued lines joined.
std::vector<std::string> program_commands(const std::string& file) {
  std::vector<std::string> commands;
  std::istringstream in(read_text(std::string(MOBILELLM_SOURCE_DIR "/") + file));
  bool is_shell = false;
  std::string command;
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with("```")) {
      is_shell = line == "```sh" && !is_shell;
      continue;
    }
    if (!is_shell) continue;
    command += line;
    if (command.ends_with('\\')) {
      command.pop_back();
      continue;
    }
    if (command.find("mobilellm ") != std::string::npos && command.find("cmake") == std::string::npos) {
      commands.push_back(command);
    }
    command.clear();
  }
  return commands;
}

void expect_commands_work(const std::string& file, size_t least) {
  const std::vector<std::string> commands = program_commands(file);
  EXPECT_GE(commands.size(), least) << file;
  const ScratchDir folder;
  folder.copy_model("e2e/r1_chat");
  folder.write("question.txt", "What is 2+2?\n");
  std::string text;
  for (int i = 0; i < 40; ++i)
    text += "What is 17 * " + std::to_string(i) + "? It is " + std::to_string(17 * i) + ".\n";
  folder.write("text.txt", text);
  folder.write("texts.jsonl", "{\"text\": \"Hello\"}\n");
  folder.write("chats.jsonl", "{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}]}\n");
  for (std::string command : commands) {
    // The tiny model's norms and f32 scales alone take more than a real model's limit.
    if (const size_t at = command.find("--target-bpw 4.5"); at != std::string::npos) {
      command.replace(at, 16, "--target-bpw 9");
    }
    ProgramOptions options;
    options.program = "/bin/sh";
    options.environment = {{"PATH", parent_directory(MOBILELLM_PROGRAM) + ":/usr/bin:/bin"},
                           {"MODEL", folder.path()},
                           {"REFERENCE_MODEL", golden("models/r1")}};
    const ProgramResult result = run_program({"-c", "cd \"$MODEL\" && " + command}, options);
    // A random model answers in no box: that status is what the text promises.
    const bool may_lack_box = command.find("--extract-boxed") != std::string::npos;
    EXPECT_TRUE(result.status == 0 || (may_lack_box && result.status == 3)) << command << "\n" << result.err;
  }
}

TEST(Readme, CommandsWork) { expect_commands_work("README.md", 6); }
TEST(Documentation, CommandsWork) { expect_commands_work("docs/cli.md", 6); }

}  // namespace
}  // namespace mobilellm
