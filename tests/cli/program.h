/// Starts the built program and takes down what it says.
#pragma once

#include <sys/types.h>

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace mobilellm {

struct ProgramResult {
  int status = -1;  ///< Exit status; 128 + N when a signal N killed it.
  std::string out;
  std::string err;
};

struct ProgramOptions {
  std::string input = {};
  std::map<std::string, std::string> environment =
      {};  ///< Besides the inherited one; NO_COLOR and the like are removed.
  bool close_stdout = false;
  bool stderr_on_terminal = false;          ///< err is what a terminal of 60 columns would get.
  std::optional<std::string> program = {};  ///< Another path or name for the program, e.g. its alias.
};

/// Runs to the end; a run above 60 seconds is killed.
ProgramResult run_program(const std::vector<std::string>& arguments, const ProgramOptions& options = {});

/// A program that is still running.
class RunningProgram {
 public:
  RunningProgram(const std::vector<std::string>& arguments, const ProgramOptions& options = {});
  ~RunningProgram();
  RunningProgram(const RunningProgram&) = delete;
  RunningProgram& operator=(const RunningProgram&) = delete;

  /// Reads standard output until it holds at least `n_bytes` or ends.
  void read_output(size_t n_bytes);
  void write_input(const std::string& text);
  void close_output();  ///< As a reader that goes away.
  void send_signal(int signal);
  ProgramResult wait();

 private:
  bool pump(bool until_output, size_t n_bytes);

  pid_t pid_ = -1;
  int in_ = -1, out_ = -1, err_ = -1;
  ProgramResult result_;
};

/// Path below tests/golden.
std::string golden(const std::string& name);
/// A fresh folder that is removed at the end.
class ScratchDir {
 public:
  ScratchDir();
  ~ScratchDir();
  std::string path(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }
  void write(const std::string& name, const std::string& content) const;
  /// A copy of a golden model's files.
  void copy_model(const std::string& name) const;

 private:
  std::string path_;
};

std::string read_text(const std::string& path);

}  // namespace mobilellm
