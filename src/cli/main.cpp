// The program: a table of commands, dispatch, and errors turned into one line and an exit status.
#include <exception>
#include <new>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/files.h"
#include "base/log.h"
#include "cli/args.h"
#include "cli/commands/commands.h"
#include "cli/terminal.h"

namespace mobilellm::cli {
namespace {

struct Command {
  std::string_view name;
  std::string_view summary;
  int (*run)(int argc, const char* const* argv);
};

constexpr Command kCommands[] = {
    {"generate", "answer a prompt, streaming the text", run_generate},
    {"inspect", "tell what a model is and whether its files are right", run_inspect},
    {"convert", "write a model in another format", run_convert},
    {"quantize", "write a model in fewer bits", run_quantize},
    {"perplexity", "measure how well a model predicts text", run_perplexity},
    {"compare", "measure how far a model departs from another", run_compare},
    {"summary", "tell how a model's linear layers are quantized", run_summary},
    {"verify", "compare a model's results with reference values", run_verify},
    {"tokenize", "turn text into token ids and back", run_tokenize},
    {"template", "render chat messages with a chat template", run_template},
    {"bench", "measure the speed of prefill and decode", run_bench},
    {"doctor", "tell what this machine offers and what holds it back", run_doctor},
};

// Names under which other programs start this one.
constexpr Command kAliases[] = {
    {"mobilellm-infer", "", run_generate},
};

std::string help() {
  std::string out =
      "usage: mobilellm COMMAND [flags]\n\nRuns small reasoning models exactly, on the CPU.\n\ncommands:\n";
  for (const Command& command : kCommands) {
    out += fmt::format("  {:<12}{}\n", command.name, command.summary);
  }
  out +=
      "\nflags:\n  --help      this text; 'mobilellm COMMAND --help' for one command\n"
      "  --version   the version\n"
      "\nexamples:\n"
      "  mobilellm generate --model-path MODEL --prompt \"What is 17 * 23?\"\n"
      "  mobilellm inspect --model-path MODEL\n"
      "\nMODEL is a folder with config.json and *.safetensors, or a .gguf file.\n"
      "Exit status: 0 success, 1 failure, 2 misuse, 3 no boxed answer, 130 interrupted,\n"
      "141 reader gone, 143 terminated.\n";
  return out;
}

int dispatch(int argc, const char* const* argv) {
  const std::string program = argc > 0 ? file_name(argv[0]) : "mobilellm";
  for (const Command& alias : kAliases) {
    if (program == alias.name) return alias.run(argc - 1, argv + 1);
  }
  if (argc < 2) {
    print_status(help());
    return exit_status(ErrorCode::kInvalidArgument);
  }
  const std::string_view name = argv[1];
  if (name == "--help" || name == "-h" || (name == "help" && argc == 2)) {
    print(help());
    return 0;
  }
  if (name == "--version") {
    print("mobilellm " MOBILELLM_VERSION "\n");
    return 0;
  }
  const bool is_help = name == "help";
  const std::string_view wanted = is_help ? argv[2] : argv[1];
  std::vector<std::string> names;
  for (const Command& command : kCommands) {
    if (wanted == command.name) {
      const char* const help_flag[] = {"--help"};
      return is_help ? command.run(1, help_flag) : command.run(argc - 2, argv + 2);
    }
    names.emplace_back(command.name);
  }
  const std::string near = nearest_word(wanted, names);
  fail(ErrorCode::kInvalidArgument, "unknown {} '{}'{}; see 'mobilellm --help'",
       wanted.substr(0, 1) == "-" ? "flag" : "command", wanted,
       near.empty() ? "" : fmt::format(" (did you mean '{}'?)", near));
}

int run_program(int argc, const char* const* argv) {
  set_up_process();
  set_log_sink([](LogLevel level, std::string_view message) {
    if (level == LogLevel::kWarning) print_status(fmt::format("mobilellm: warning: {}\n", printable(message)));
  });
  int status = 1;
  try {
    status = dispatch(argc, argv);
  } catch (const Error& error) {
    print_error(error.what());
    status = exit_status(error.code());
  } catch (const std::bad_alloc&) {
    print_error("[memory] the system refused more memory");
  } catch (const std::exception& error) {
    print_error(fmt::format("[internal] {}", error.what()));
  }
  try {
    flush_stdout();
  } catch (const Error& error) {
    print_error(error.what());
    if (status == 0) status = exit_status(error.code());
  }
  return status;
}

}  // namespace
}  // namespace mobilellm::cli

int main(int argc, char** argv) { return mobilellm::cli::run_program(argc, argv); }
