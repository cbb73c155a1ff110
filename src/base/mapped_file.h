/// A read-only file in memory: mapped where possible, read where not.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

namespace mobilellm {

/// Owns the mapping; views into bytes() live as long as it does. Immutable, so any thread may read.
/// A file that another process shortens while it is mapped raises SIGBUS on access, as for every mapping:
/// check_unchanged() lets a loader detect the change before it trusts the data.
class MappedFile {
 public:
  /// Throws kNotFound or kIo. Directories, FIFOs and devices are refused.
  static std::shared_ptr<const MappedFile> open(const std::string& path);
  /// A file without a name that exists in memory only: `fill` writes its bytes (zeros at first), then it is read like
  /// any other, so that release() lowers the resident set and loses nothing. Throws kResourceLimit.
  static std::shared_ptr<const MappedFile> create_in_memory(
      size_t n_bytes, const std::function<void(std::span<std::byte> bytes)>& fill);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return {data_, n_bytes_}; }
  const std::string& path() const { return path_; }

  /// Throws kIo when the file's size or modification time differ from those at open(); not for files in memory.
  void check_unchanged() const;
  /// Tells the system that a range will not be read again soon, so that its pages leave the resident set.
  void release(std::span<const std::byte> range) const noexcept;
  /// Asks the system to read a range ahead.
  void prefetch(std::span<const std::byte> range) const noexcept;

 private:
  MappedFile() = default;
  std::string path_;
  const std::byte* data_ = nullptr;
  size_t n_bytes_ = 0;
  bool is_mapped_ = false;
  std::unique_ptr<std::byte[]> buffer_;
  int64_t modified_ns_ = 0;
};

}  // namespace mobilellm
