/// A new file that is written once from front to back, with every error of the system told.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mobilellm {

/// Small writes are collected. A file that is not closed in order may be incomplete: who makes it also removes it
/// (see StagedOutput).
class OutputFile {
 public:
  /// Throws kIo naming the path; an existing file is never opened.
  explicit OutputFile(std::string path);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  /// Throw kIo naming the path and the reason (disk full, size limit, ...).
  void write(std::span<const std::byte> bytes);
  void write(std::string_view text);
  /// Zeros up to the next multiple of `alignment`.
  void pad_to(size_t alignment);
  /// Bytes written so far.
  size_t position() const { return position_; }
  /// Everything to the disk; afterwards the object is of no more use. Throws kIo.
  void close();

 private:
  void flush();
  void write_through(std::span<const std::byte> bytes);

  std::string path_;
  int descriptor_ = -1;
  size_t position_ = 0;
  size_t n_unsent_ = 0;  // Bytes written since the system was last asked to send them to the disk.
  std::vector<std::byte> buffer_;
};

/// A whole small file at once.
void write_file(const std::string& path, std::string_view text);

}  // namespace mobilellm
