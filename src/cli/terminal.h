/// Standard output and error of the program, its signals, colours and progress bar. Only src/cli prints.
#pragma once

#include <atomic>
#include <chrono>
#include <string>
#include <string_view>

namespace mobilellm::cli {

/// Exit statuses besides those of base/error.h (0 success, 1 failure, 2 misuse).
constexpr int kExitNoBoxedAnswer = 3;
constexpr int kExitInterrupted = 130;
constexpr int kExitTerminated = 143;
constexpr int kExitBrokenPipe = 141;

/// Handles SIGINT, SIGTERM and SIGPIPE, and keeps descriptors 0 to 2 from being taken by files when they are closed.
void set_up_process();

/// While one of these lives, a first SIGINT or SIGTERM only sets the flag, so that work can end in order;
/// at any other time, and at the second signal, the process ends at once.
class CancelScope {
 public:
  CancelScope();
  ~CancelScope();
  CancelScope(const CancelScope&) = delete;
  CancelScope& operator=(const CancelScope&) = delete;
  /// 0, or the exit status that the received signal asks for.
  static int requested_status();
  /// True once a signal was received.
  static const std::atomic<bool>& flag();
};

/// Appends to standard output, which is buffered until flush_stdout(). Ends the process quietly (141) when the reader
/// has gone; throws kIo when writing fails otherwise.
void print(std::string_view text);
void flush_stdout();

/// One line on standard error, "mobilellm: <message>": line breaks and control characters are made harmless.
void print_error(std::string_view message);
/// Text on standard error as it is.
void print_status(std::string_view text);

bool is_terminal(int descriptor);
/// NO_COLOR, CLICOLOR_FORCE and FORCE_COLOR, TERM=dumb, else whether it is a terminal.
bool use_color(int descriptor);
/// Columns of the terminal on standard error, 80 when unknown.
int terminal_width();

/// Replaces control characters other than newline and tab, so that text from a file or a model cannot drive a terminal.
std::string printable(std::string_view text);

/// A line on standard error that is redrawn while work goes on and removed at the end, with the time left by the pace
/// so far; silent unless a terminal.
class ProgressBar {
 public:
  explicit ProgressBar(std::string label);
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;
  void update(double fraction);
  void clear();

 private:
  std::string time_left(double fraction) const;

  std::string label_;
  bool is_shown_ = false;
  bool is_terminal_;
  int last_filled_ = -1;
  std::string last_left_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace mobilellm::cli
