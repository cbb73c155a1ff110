// A file per part, renamed into place when it is on the disk, and a file with the identity.
#include "base/part_store.h"

#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <utility>

#include "base/error.h"
#include "base/files.h"
#include "base/folder_lock.h"
#include "base/output_file.h"

namespace mobilellm {
namespace {

constexpr std::string_view kIdentityName = "identity";
constexpr std::string_view kSuffix = ".part";
constexpr size_t kMaxIdentityBytes = size_t{1} << 24;
constexpr size_t kMaxPartBytes = size_t{1} << 36;

// In front of a part's bytes.
struct Header {
  uint64_t identity;
  uint64_t n_bytes;
  uint64_t hash;
};

std::span<const std::byte> bytes_of(const std::string& text) { return std::as_bytes(std::span(text)); }

}  // namespace

uint64_t content_hash(std::span<const std::byte> bytes, uint64_t start) {
  constexpr uint64_t kPrime = 0x9E3779B97F4A7C15;
  uint64_t hash = start ^ (bytes.size() * kPrime);
  const auto mix = [&](uint64_t word) {
    hash = (hash ^ word) * kPrime;
    hash ^= hash >> 29;
  };
  size_t i = 0;
  for (; i + 8 <= bytes.size(); i += 8) {
    uint64_t word;
    std::memcpy(&word, bytes.data() + i, 8);
    mix(word);
  }
  uint64_t rest = 0;
  if (i < bytes.size()) std::memcpy(&rest, bytes.data() + i, bytes.size() - i);
  mix(rest);
  return hash;
}

PartStore::PartStore(std::string folder, std::string identity)
    : folder_(std::move(folder)), identity_(std::move(identity)), identity_hash_(content_hash(bytes_of(identity_))) {
  open_folder();
  try {
    adopt_or_clear();
  } catch (...) {
    ::close(lock_);
    throw;
  }
}

PartStore::~PartStore() {
  if (lock_ < 0) return;
  if (n_parts_ == 0) {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  ::close(lock_);
}

void PartStore::open_folder() {
  const bool is_new = ::mkdir(folder_.c_str(), 0777) == 0;
  if (!is_new && errno != EEXIST) {
    fail(ErrorCode::kIo, "[output] cannot create {}: {}", folder_, std::strerror(errno));
  }
  lock_ = lock_folder(folder_);
  if (lock_ < 0) {
    const int reason = errno;
    if (reason == EWOULDBLOCK) {
      fail(ErrorCode::kInvalidArgument, "[output] {}: another run uses it; wait for that run, or choose another output",
           folder_);
    }
    if (is_new) ::rmdir(folder_.c_str());
    fail(ErrorCode::kIo, "[output] cannot lock {}: {}", folder_, std::strerror(reason));
  }
  // Some file systems give all files to one user; what this process made is its own there too.
  struct stat info{};
  if (is_new || (::fstat(lock_, &info) == 0 && info.st_uid == ::geteuid())) return;
  ::close(std::exchange(lock_, -1));
  fail(ErrorCode::kIo, "[output] {}: it is no folder of yours", folder_);
}

void PartStore::adopt_or_clear() {
  const std::string identity_path = join_path(folder_, kIdentityName);
  bool is_same = false;
  if (file_exists(identity_path)) {
    try {
      is_same = read_file(identity_path, kMaxIdentityBytes) == identity_;
    } catch (const Error&) {
      is_same = false;
    }
  }
  try {
    if (is_same) {
      for (const auto& entry : std::filesystem::directory_iterator(folder_)) {
        if (entry.path().extension() == kSuffix) ++n_parts_;
      }
      return;
    }
    // The identity goes first and comes last: parts without one are of no use.
    std::filesystem::remove(identity_path);
    for (const auto& entry : std::filesystem::directory_iterator(folder_)) std::filesystem::remove_all(entry.path());
  } catch (const std::filesystem::filesystem_error& error) {
    fail(ErrorCode::kIo, "[output] cannot {} {}: {}", is_same ? "read" : "empty", folder_, error.code().message());
  }
  try {
    write_file(identity_path, identity_);
  } catch (const Error&) {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
    throw;
  }
}

std::string PartStore::part_path(std::string_view name) const {
  const std::string file = fmt::format("{}{}", name, kSuffix);
  MOBILELLM_CHECK(is_plain_file_name(file));
  return join_path(folder_, file);
}

std::optional<std::vector<std::byte>> PartStore::load(std::string_view name) const {
  const std::string path = part_path(name);
  if (!file_exists(path)) return std::nullopt;
  const std::string bytes = read_file(path, kMaxPartBytes);
  Header header{};
  if (bytes.size() < sizeof(header)) return std::nullopt;
  std::memcpy(&header, bytes.data(), sizeof(header));
  const std::span<const std::byte> content = bytes_of(bytes).subspan(sizeof(header));
  if (header.identity != identity_hash_ || header.n_bytes != content.size() || header.hash != content_hash(content)) {
    return std::nullopt;
  }
  return std::vector<std::byte>(content.begin(), content.end());
}

void PartStore::save(std::string_view name, std::span<const std::span<const std::byte>> pieces, double room) {
  const std::string path = part_path(name);
  const std::string staged = path + ".new";
  std::vector<std::byte> content;
  for (const std::span<const std::byte> piece : pieces) content.insert(content.end(), piece.begin(), piece.end());
  struct statvfs disk{};
  if (room > 0 && ::statvfs(folder_.c_str(), &disk) == 0 && disk.f_blocks != 0) {
    const double n_free = static_cast<double>(disk.f_bavail) * static_cast<double>(disk.f_frsize);
    if (n_free < room + static_cast<double>(content.size())) {
      fail(ErrorCode::kIo, "[output] cannot write {}: the disk has only {:.1f} MB left", path, n_free / 1e6);
    }
  }
  const Header header = {identity_hash_, content.size(), content_hash(content)};
  const bool is_new = !file_exists(path);
  ::unlink(staged.c_str());
  try {
    OutputFile file(staged);
    file.write(std::as_bytes(std::span(&header, 1)));
    file.write(content);
    file.close();
  } catch (const Error&) {
    ::unlink(staged.c_str());
    throw;
  }
  if (::rename(staged.c_str(), path.c_str()) != 0) {
    fail(ErrorCode::kIo, "[output] cannot rename {}: {}", staged, std::strerror(errno));
  }
  if (is_new) ++n_parts_;
}

void PartStore::remove() {
  if (lock_ < 0) return;
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
  ::close(std::exchange(lock_, -1));
  n_parts_ = 0;
}

}  // namespace mobilellm
