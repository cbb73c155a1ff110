// Pipes, a pseudo-terminal and waiting with a time limit.
#include "tests/cli/program.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>

namespace mobilellm {

namespace {

constexpr auto kTimeLimit = std::chrono::seconds(60);

void check(bool ok, const char* what) {
  if (!ok) throw std::runtime_error(what);
}

struct Pipe {
  int read_end = -1, write_end = -1;
  Pipe() {
    int ends[2];
    check(::pipe2(ends, O_CLOEXEC) == 0, "pipe");
    read_end = ends[0];
    write_end = ends[1];
  }
};

// Master and slave of a pseudo-terminal with 60 columns.
Pipe open_terminal() {
  Pipe ends;
  ::close(ends.read_end);
  ::close(ends.write_end);
  ends.read_end = ::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
  check(ends.read_end >= 0 && ::grantpt(ends.read_end) == 0 && ::unlockpt(ends.read_end) == 0, "pseudo-terminal");
  ends.write_end = ::open(::ptsname(ends.read_end), O_RDWR | O_NOCTTY | O_CLOEXEC);
  check(ends.write_end >= 0, "pseudo-terminal");
  winsize size = {};
  size.ws_col = 60;
  size.ws_row = 24;
  check(::ioctl(ends.write_end, TIOCSWINSZ, &size) == 0, "terminal size");
  return ends;
}

void close_once(int& descriptor) {
  if (descriptor >= 0) ::close(descriptor);
  descriptor = -1;
}

// False at the end of the input.
bool read_some(int descriptor, std::string& out) {
  char buffer[4096];
  const ssize_t n = ::read(descriptor, buffer, sizeof buffer);
  if (n > 0) out.append(buffer, static_cast<size_t>(n));
  return n > 0;  // A pseudo-terminal whose other end has gone gives EIO.
}

}  // namespace

RunningProgram::RunningProgram(const std::vector<std::string>& arguments, const ProgramOptions& options) {
  Pipe in, out;
  Pipe err = options.stderr_on_terminal ? open_terminal() : Pipe();
  std::vector<std::string> words = {options.program.value_or(MOBILELLM_PROGRAM)};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  pid_ = ::fork();
  check(pid_ >= 0, "fork");
  if (pid_ == 0) {
    for (const char* name : {"NO_COLOR", "CLICOLOR_FORCE", "FORCE_COLOR"}) ::unsetenv(name);
    ::setenv("TERM", "xterm", 1);
    for (const auto& [name, value] : options.environment) ::setenv(name.c_str(), value.c_str(), 1);
    for (const int signal : {SIGINT, SIGTERM, SIGPIPE}) ::signal(signal, SIG_DFL);
    ::dup2(in.read_end, 0);
    ::dup2(out.write_end, 1);
    ::dup2(err.write_end, 2);
    if (options.close_stdout) ::close(1);
    ::execv(argv[0], argv.data());
    ::_exit(127);
  }
  ::close(in.read_end);
  ::close(out.write_end);
  ::close(err.write_end);
  in_ = in.write_end;
  out_ = out.read_end;
  err_ = err.read_end;
}

RunningProgram::~RunningProgram() {
  if (pid_ > 0) {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  close_once(in_);
  close_once(out_);
  close_once(err_);
}

// Reads both streams until they end, or until standard output holds n_bytes. False when time ran out.
bool RunningProgram::pump(bool until_output, size_t n_bytes) {
  const auto end = std::chrono::steady_clock::now() + kTimeLimit;
  while (out_ >= 0 || err_ >= 0) {
    if (until_output && (result_.out.size() >= n_bytes || out_ < 0)) return true;
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - std::chrono::steady_clock::now());
    if (left.count() <= 0) return false;
    pollfd sources[2] = {{out_, POLLIN, 0}, {err_, POLLIN, 0}};
    if (::poll(sources, 2, static_cast<int>(left.count())) <= 0) return false;
    if (sources[0].revents != 0 && !read_some(out_, result_.out)) close_once(out_);
    if (sources[1].revents != 0 && !read_some(err_, result_.err)) close_once(err_);
  }
  return true;
}

void RunningProgram::read_output(size_t n_bytes) { check(pump(true, n_bytes), "the program gave no output in time"); }

void RunningProgram::write_input(const std::string& text) {
  ::signal(SIGPIPE, SIG_IGN);
  size_t done = 0;
  while (done < text.size()) {
    const ssize_t n = ::write(in_, text.data() + done, text.size() - done);
    if (n <= 0) return;  // The program does not read (any more).
    done += static_cast<size_t>(n);
  }
}

void RunningProgram::close_output() { close_once(out_); }
void RunningProgram::send_signal(int signal) { ::kill(pid_, signal); }

ProgramResult RunningProgram::wait() {
  close_once(in_);
  if (!pump(false, 0)) ::kill(pid_, SIGKILL);
  int status = 0;
  ::waitpid(pid_, &status, 0);
  pid_ = -1;
  result_.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return result_;
}

ProgramResult run_program(const std::vector<std::string>& arguments, const ProgramOptions& options) {
  RunningProgram program(arguments, options);
  program.write_input(options.input);
  return program.wait();
}

std::string golden(const std::string& name) { return MOBILELLM_SOURCE_DIR "/tests/golden/" + name; }

ScratchDir::ScratchDir() {
  std::string pattern = std::filesystem::temp_directory_path().string() + "/mobilellm-test-XXXXXX";
  check(::mkdtemp(pattern.data()) != nullptr, "mkdtemp");
  path_ = pattern;
}

ScratchDir::~ScratchDir() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

void ScratchDir::write(const std::string& name, const std::string& content) const {
  std::ofstream(path(name), std::ios::binary) << content;
}

void ScratchDir::copy_model(const std::string& name) const {
  std::filesystem::copy(golden(name), path_, std::filesystem::copy_options::recursive);
}

std::string read_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

}  // namespace mobilellm
