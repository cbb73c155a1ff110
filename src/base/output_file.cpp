// Buffered writing with POSIX calls.
#include "base/output_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/error.h"

namespace mobilellm {
namespace {

constexpr size_t kBufferBytes = size_t{256} << 10;
constexpr size_t kSendBytes = size_t{16} << 20;

[[noreturn]] void fail_system(const char* action, const std::string& path) {
  fail(ErrorCode::kIo, "[output] cannot {} {}: {}", action, path, std::strerror(errno));
}

}  // namespace

OutputFile::OutputFile(std::string path) : path_(std::move(path)) {
  descriptor_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (descriptor_ < 0) fail_system("create", path_);
  buffer_.reserve(kBufferBytes);
}

OutputFile::~OutputFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void OutputFile::write(std::span<const std::byte> bytes) {
  position_ += bytes.size();
  if (buffer_.size() + bytes.size() > kBufferBytes) flush();
  if (bytes.size() >= kBufferBytes) {
    write_through(bytes);
  } else {
    buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
  }
}

void OutputFile::write(std::string_view text) { write(std::as_bytes(std::span(text))); }

void OutputFile::pad_to(size_t alignment) {
  constexpr std::byte kZeros[64] = {};
  size_t rest = (alignment - position_ % alignment) % alignment;
  while (rest > 0) {
    const size_t n = std::min(rest, sizeof(kZeros));
    write(std::span(kZeros, n));
    rest -= n;
  }
}

void OutputFile::flush() {
  write_through(buffer_);
  buffer_.clear();
}

void OutputFile::write_through(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor_, bytes.data(), bytes.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      fail_system("write", path_);
    }
    bytes = bytes.subspan(static_cast<size_t>(written));
    n_unsent_ += static_cast<size_t>(written);
  }
#if defined(__linux__)
  // The disk begins now, so that close() has little to wait for.
  if (n_unsent_ < kSendBytes) return;
  n_unsent_ = 0;
  (void)::sync_file_range(descriptor_, 0, 0, SYNC_FILE_RANGE_WRITE);
#endif
}

void OutputFile::close() {
  flush();
  if (::fsync(descriptor_) != 0) fail_system("write", path_);
  if (::close(std::exchange(descriptor_, -1)) != 0) fail_system("close", path_);
}

void write_file(const std::string& path, std::string_view text) {
  OutputFile file(path);
  file.write(text);
  file.close();
}

}  // namespace mobilellm
