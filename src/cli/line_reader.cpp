// Reading with plain system calls, so that waiting for input is visible here.
#include "cli/line_reader.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "base/utf8.h"
#include "cli/terminal.h"

namespace mobilellm::cli {

namespace {

constexpr size_t kMaxInputBytes = size_t{256} << 20;
constexpr size_t kChunkBytes = size_t{1} << 16;

int open_input(const std::string& path) {
  if (path == "-") return STDIN_FILENO;
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) {
    fail(errno == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo, "[input] cannot open {}: {}", path,
         std::strerror(errno));
  }
  struct stat info = {};
  if (::fstat(descriptor, &info) == 0 && S_ISDIR(info.st_mode)) {
    ::close(descriptor);
    fail(ErrorCode::kIo, "[input] {} is a folder, expected a file", path);
  }
  return descriptor;
}

// Appends what one read gives; false at the end of the input.
bool read_some(int descriptor, const std::string& name, std::string& out) {
  const size_t size = out.size();
  out.resize(size + kChunkBytes);
  ssize_t n = 0;
  do {
    n = ::read(descriptor, out.data() + size, kChunkBytes);
  } while (n < 0 && errno == EINTR);
  const int error = errno;
  out.resize(size + static_cast<size_t>(n < 0 ? 0 : n));
  if (n < 0) fail(ErrorCode::kIo, "[input] cannot read {}: {}", name, std::strerror(error));
  return n > 0;
}

}  // namespace

LineReader::LineReader(const std::string& path)
    : name_(path == "-" ? "standard input" : path), descriptor_(open_input(path)), owns_descriptor_(path != "-") {}

LineReader::~LineReader() {
  if (owns_descriptor_) ::close(descriptor_);
}

bool LineReader::fill() {
  if (is_at_end_) return false;
  flush_stdout();
  buffer_.erase(0, begin_);
  begin_ = 0;
  is_at_end_ = !read_some(descriptor_, name_, buffer_);
  return !is_at_end_;
}

std::optional<std::string> LineReader::next() {
  size_t searched = begin_;
  size_t end = buffer_.find('\n', searched);
  while (end == std::string::npos) {
    searched = buffer_.size() - begin_;  // fill() moves the line to the front.
    if (searched > kMaxInputBytes) {
      ++n_lines_;
      fail(ErrorCode::kResourceLimit, "[input] {} is longer than {} MB", where(), kMaxInputBytes >> 20);
    }
    if (!fill()) break;
    end = buffer_.find('\n', searched);
  }
  if (end == std::string::npos) {
    if (begin_ >= buffer_.size()) return std::nullopt;
    end = buffer_.size();
  }
  std::string line = buffer_.substr(begin_, end - begin_);
  begin_ = std::min(end + 1, buffer_.size());
  if (!line.empty() && line.back() == '\r') line.pop_back();
  ++n_lines_;
  return line;
}

std::string LineReader::where() const { return fmt::format("line {} of {}", n_lines_, name_); }

std::string json_line(const Json& value) {
  constexpr std::pair<std::string_view, std::string_view> kSeparators[] = {
      {"\xC2\x85", "\\u0085"}, {"\xE2\x80\xA8", "\\u2028"}, {"\xE2\x80\xA9", "\\u2029"}};
  std::string line = value.dump(true);
  for (const auto& [separator, escape] : kSeparators) {
    if (line.find(separator) == std::string::npos) continue;
    std::string escaped;
    size_t begin = 0;
    for (size_t at = line.find(separator); at != std::string::npos; at = line.find(separator, begin)) {
      escaped.append(line, begin, at - begin).append(escape);
      begin = at + separator.size();
    }
    line = escaped.append(line, begin);
  }
  return line + "\n";
}

std::string read_input(const std::string& path) {
  const int descriptor = open_input(path);
  const std::string name = path == "-" ? "standard input" : path;
  std::string text;
  while (read_some(descriptor, name, text)) {
    if (text.size() > kMaxInputBytes) {
      fail(ErrorCode::kResourceLimit, "[input] {} is longer than {} MB", name, kMaxInputBytes >> 20);
    }
  }
  if (path != "-") ::close(descriptor);
  return text;
}

void require_utf8(std::string_view text, const std::string& origin) {
  size_t offset = 0;
  while (offset < text.size()) {
    const Utf8Char next = decode_utf8(text, offset);
    if (!next.is_valid) fail(ErrorCode::kInvalidArgument, "{}: not valid UTF-8 at byte {}", origin, offset);
    offset += static_cast<size_t>(next.n_bytes);
  }
}

}  // namespace mobilellm::cli
