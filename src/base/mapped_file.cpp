// mmap with a read fallback for file systems that cannot map.
#include "base/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>

#include "base/error.h"

namespace mobilellm {
namespace {

constexpr int64_t kInMemory = INT64_MIN;  // Instead of a time.

int64_t modified_ns(const struct stat& info) {
#if defined(__APPLE__)
  return int64_t{info.st_mtimespec.tv_sec} * 1'000'000'000 + info.st_mtimespec.tv_nsec;
#else
  return int64_t{info.st_mtim.tv_sec} * 1'000'000'000 + info.st_mtim.tv_nsec;
#endif
}

void advise(std::span<const std::byte> range, int advice, bool whole_pages_only) noexcept {
  static const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<uintptr_t>(range.data());
  const uintptr_t end = begin + range.size();
  const uintptr_t first = whole_pages_only ? (begin + page - 1) / page * page : begin / page * page;
  const uintptr_t last = whole_pages_only ? end / page * page : end;
  // NOLINTNEXTLINE(performance-no-int-to-ptr): the addresses of whole pages.
  if (first < last) ::madvise(reinterpret_cast<void*>(first), last - first, advice);
}

}  // namespace

std::shared_ptr<const MappedFile> MappedFile::open(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) {
    fail(errno == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo, "[file] cannot open {}: {}", path,
         std::strerror(errno));
  }
  struct Closer {
    int fd;
    ~Closer() { ::close(fd); }
  } closer{fd};
  struct stat info{};
  if (::fstat(fd, &info) != 0) fail(ErrorCode::kIo, "[file] cannot examine {}: {}", path, std::strerror(errno));
  if (!S_ISREG(info.st_mode)) fail(ErrorCode::kIo, "[file] {} is not a regular file", path);

  std::shared_ptr<MappedFile> file(new MappedFile());
  file->path_ = path;
  file->n_bytes_ = static_cast<size_t>(info.st_size);
  file->modified_ns_ = modified_ns(info);
  if (file->n_bytes_ == 0) return file;
  void* address = ::mmap(nullptr, file->n_bytes_, PROT_READ, MAP_PRIVATE, fd, 0);
  if (address != MAP_FAILED) {
    file->data_ = static_cast<const std::byte*>(address);
    file->is_mapped_ = true;
    return file;
  }
  file->buffer_ = std::make_unique<std::byte[]>(file->n_bytes_);
  size_t done = 0;
  while (done < file->n_bytes_) {
    const ssize_t got = ::read(fd, file->buffer_.get() + done, file->n_bytes_ - done);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0)
      fail(ErrorCode::kIo, "[file] cannot read {}: {}", path, got == 0 ? "the file shrank" : std::strerror(errno));
    done += static_cast<size_t>(got);
  }
  file->data_ = file->buffer_.get();
  return file;
}

std::shared_ptr<const MappedFile> MappedFile::create_in_memory(
    size_t n_bytes, const std::function<void(std::span<std::byte> bytes)>& fill) {
  std::shared_ptr<MappedFile> file(new MappedFile());
  file->path_ = "memory";
  file->modified_ns_ = kInMemory;
  file->n_bytes_ = n_bytes;
  if (n_bytes == 0) return file;
#if defined(__linux__)
  const int fd = ::memfd_create("mobilellm", MFD_CLOEXEC);
  if (fd < 0 || ::ftruncate(fd, static_cast<off_t>(n_bytes)) != 0) {
    if (fd >= 0) ::close(fd);
    fail(ErrorCode::kResourceLimit, "[memory] the system refused {} MiB", n_bytes >> 20);
  }
  void* address = ::mmap(nullptr, n_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  ::close(fd);
  if (address == MAP_FAILED) fail(ErrorCode::kResourceLimit, "[memory] the system refused {} MiB", n_bytes >> 20);
  file->data_ = static_cast<const std::byte*>(address);
  file->is_mapped_ = true;
  fill({static_cast<std::byte*>(address), n_bytes});
  ::mprotect(address, n_bytes, PROT_READ);
#else
  file->buffer_ = std::make_unique<std::byte[]>(n_bytes);
  file->data_ = file->buffer_.get();
  fill({file->buffer_.get(), n_bytes});
#endif
  return file;
}

MappedFile::~MappedFile() {
  if (is_mapped_) ::munmap(const_cast<std::byte*>(data_), n_bytes_);
}

void MappedFile::check_unchanged() const {
  if (modified_ns_ == kInMemory) return;
  struct stat info{};
  if (::stat(path_.c_str(), &info) != 0 || static_cast<size_t>(info.st_size) != n_bytes_ ||
      modified_ns(info) != modified_ns_) {
    fail(ErrorCode::kIo, "[file] {} changed while it was being read; load it again once it is complete", path_);
  }
}

void MappedFile::release(std::span<const std::byte> range) const noexcept {
  if (is_mapped_) advise(range, MADV_DONTNEED, true);
}

void MappedFile::prefetch(std::span<const std::byte> range) const noexcept {
  if (is_mapped_) advise(range, MADV_WILLNEED, false);
}

}  // namespace mobilellm
