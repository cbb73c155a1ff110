// Writing with errors checked, signal handlers, colours and the progress bar.
#include "cli/terminal.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "base/error.h"

namespace mobilellm::cli {

namespace {

constexpr size_t kStdoutBufferBytes = size_t{64} << 10;

std::atomic<int> cancel_scopes{0};
std::atomic<int> cancel_status{0};
std::atomic<bool> is_cancelled{false};

std::string& stdout_buffer() {
  static std::string buffer;
  return buffer;
}

// Only async-signal-safe calls are allowed here.
extern "C" void on_signal(int signal) {
  const int status = 128 + signal;
  if (signal == SIGPIPE || cancel_scopes.load() == 0 || cancel_status.load() != 0) _exit(status);
  cancel_status.store(status);
  is_cancelled.store(true);
}

// A mapped file lost its pages: another program shortened it.
extern "C" void on_bus_error(int) {
  constexpr char kMessage[] =
      "mobilellm: [file] a model file was shortened while it was in use; restore it and run again\n";
  if (::write(STDERR_FILENO, kMessage, sizeof(kMessage) - 1) < 0) _exit(1);
  _exit(1);
}

bool is_set(const char* variable) {
  const char* value = std::getenv(variable);
  return value != nullptr && *value != '\0';
}

void write_all(int descriptor, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(descriptor, text.data(), text.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      if (errno == EPIPE) _exit(kExitBrokenPipe);
      fail(ErrorCode::kIo, "[output] cannot write to standard output: {}", std::strerror(errno));
    }
    text.remove_prefix(static_cast<size_t>(written));
  }
}

}  // namespace

void set_up_process() {
  for (int descriptor = 0; descriptor <= 2; ++descriptor) {
    // A closed descriptor would be given to the next opened file. Opened the wrong way round, its use still fails.
    if (::fcntl(descriptor, F_GETFD) < 0) {
      const int opened = ::open("/dev/null", descriptor == 0 ? O_WRONLY : O_RDONLY);
      if (opened >= 0 && opened != descriptor) ::close(opened);
    }
  }
  struct sigaction action = {};
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  for (const int signal : {SIGINT, SIGTERM, SIGPIPE}) ::sigaction(signal, &action, nullptr);
  action.sa_handler = on_bus_error;
  ::sigaction(SIGBUS, &action, nullptr);
  // Writing beyond a limit on file sizes is then an error like a full disk.
  action.sa_handler = SIG_IGN;
  ::sigaction(SIGXFSZ, &action, nullptr);
}

CancelScope::CancelScope() { cancel_scopes.fetch_add(1); }
CancelScope::~CancelScope() { cancel_scopes.fetch_sub(1); }
int CancelScope::requested_status() { return cancel_status.load(); }
const std::atomic<bool>& CancelScope::flag() { return is_cancelled; }

void print(std::string_view text) {
  stdout_buffer() += text;
  if (stdout_buffer().size() >= kStdoutBufferBytes) flush_stdout();
}

void flush_stdout() {
  // Emptied first: when writing fails, the flush at the end of the program must not fail again.
  const std::string pending = std::exchange(stdout_buffer(), "");
  write_all(STDOUT_FILENO, pending);
}

void print_status(std::string_view text) {
  // Nothing can be told when standard error itself does not work.
  const ssize_t ignored = ::write(STDERR_FILENO, text.data(), text.size());
  (void)ignored;
}

void print_error(std::string_view message) {
  std::string line = printable(message);
  std::replace(line.begin(), line.end(), '\n', ' ');
  const bool color = use_color(STDERR_FILENO);
  print_status((color ? "\x1b[1;31mmobilellm:\x1b[0m " : "mobilellm: ") + line + "\n");
}

bool is_terminal(int descriptor) { return ::isatty(descriptor) == 1; }

bool use_color(int descriptor) {
  if (is_set("NO_COLOR")) return false;
  const char* force = std::getenv("CLICOLOR_FORCE");
  if ((force != nullptr && *force != '\0' && std::strcmp(force, "0") != 0) || is_set("FORCE_COLOR")) return true;
  const char* term = std::getenv("TERM");
  return is_terminal(descriptor) && (term == nullptr || std::strcmp(term, "dumb") != 0);
}

int terminal_width() {
  winsize size = {};
  if (::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  return 80;
}

std::string printable(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    // U+0080..U+009F, the C1 controls, are 0xC2 0x80..0x9F in UTF-8.
    const bool is_c1 = c == 0xC2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xA0;
    if (is_c1) {
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(text[++i]));
    } else if ((c < 0x20 && c != '\n' && c != '\t') || c == 0x7F) {
      out += fmt::format("\\x{:02x}", c);
    } else {
      out += text[i];
    }
  }
  return out;
}

ProgressBar::ProgressBar(std::string label) : label_(std::move(label)), is_terminal_(is_terminal(STDERR_FILENO)) {}
ProgressBar::~ProgressBar() { clear(); }

void ProgressBar::update(double fraction) {
  if (!is_terminal_) return;
  fraction = std::clamp(fraction, 0.0, 1.0);
  const int columns = std::clamp(terminal_width() - static_cast<int>(label_.size()) - 23, 0, 40);
  const int filled = static_cast<int>(fraction * columns);
  const std::string left = time_left(fraction);
  if (is_shown_ && filled == last_filled_ && left == last_left_) return;
  last_filled_ = filled;
  last_left_ = left;
  is_shown_ = true;
  print_status(fmt::format("\r{} [{:<{}}] {:3.0f}%{:<13}", label_, std::string(static_cast<size_t>(filled), '#'),
                           columns, 100 * fraction, left));
}

std::string ProgressBar::time_left(double fraction) const {
  const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - start_;
  if (passed.count() < 2 || fraction <= 0) return "";
  const double seconds = std::min(passed.count() * (1 - fraction) / fraction, 5940.0 * 60);
  if (seconds < 100) return fmt::format("  {:.0f} s left", std::ceil(seconds));
  return fmt::format("  {:.0f} min left", std::ceil(seconds / 60));
}

void ProgressBar::clear() {
  if (!is_shown_) return;
  print_status("\r\x1b[K");
  is_shown_ = false;
}

}  // namespace mobilellm::cli
