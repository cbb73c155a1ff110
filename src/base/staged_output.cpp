// The hidden folder beside the target, and moving it into place without replacing anything.
#include "base/staged_output.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <utility>

#include "base/error.h"
#include "base/files.h"
#include "base/folder_lock.h"

namespace mobilellm {
namespace {

bool path_exists(const std::string& path) {
  struct stat info{};
  return ::lstat(path.c_str(), &info) == 0;
}

[[noreturn]] void fail_exists(const std::string& target) {
  fail(ErrorCode::kInvalidArgument, "[output] {} exists already; remove it or choose another name", target);
}

// Makes the entries of a folder durable.
void sync_folder(const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) fail(ErrorCode::kIo, "[output] cannot open {}: {}", path, std::strerror(errno));
  // Some file systems cannot do this for folders, and then there is nothing to be done.
  const bool is_synced = ::fsync(descriptor) == 0 || errno == EINVAL || errno == ENOTSUP;
  const int error = errno;
  ::close(descriptor);
  if (!is_synced) fail(ErrorCode::kIo, "[output] cannot write {}: {}", path, std::strerror(error));
}

// Renames unless the target exists; false with errno otherwise.
bool rename_to_new_name(const std::string& from, const std::string& to) {
#ifdef RENAME_NOREPLACE
  if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0) return true;
  if (errno != ENOSYS && errno != EINVAL) return false;
#endif
  // The file system cannot check and rename in one step.
  if (path_exists(to)) {
    errno = EEXIST;
    return false;
  }
  return ::rename(from.c_str(), to.c_str()) == 0;
}

// Removes folders that killed processes left. One that was just made may not be locked yet.
void remove_leftovers(const std::string& parent, const std::string& prefix) {
  constexpr time_t kSeconds = 60;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(parent, ignored)) {
    const std::string path = entry.path().string();
    if (!file_name(path).starts_with(prefix)) continue;
    struct stat info{};
    if (::lstat(path.c_str(), &info) != 0 || !S_ISDIR(info.st_mode) || info.st_uid != ::geteuid()) continue;
    if (info.st_mtime + kSeconds > ::time(nullptr)) continue;
    const int lock = lock_folder(path);
    if (lock < 0) continue;
    std::filesystem::remove_all(path, ignored);
    ::close(lock);
  }
}

std::string without_slashes(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

}  // namespace

std::string StagedOutput::check_target(std::string target) {
  target = without_slashes(std::move(target));
  if (!is_plain_file_name(file_name(target))) {
    fail(ErrorCode::kInvalidArgument, "[output] '{}' cannot be the name of an output", target);
  }
  if (path_exists(target)) fail_exists(target);
  const std::string parent = parent_directory(target);
  if (!directory_exists(parent)) {
    fail(ErrorCode::kNotFound, "[output] {}: the folder {} does not exist; create it first", target, parent);
  }
  return target;
}

StagedOutput::StagedOutput(std::string target, Kind kind) : target_(check_target(std::move(target))), kind_(kind) {
  const std::string name = file_name(target_);
  const std::string parent = parent_directory(target_);
  remove_leftovers(parent, fmt::format(".{}.partial-", name));
  constexpr int kMaxLeftovers = 1000;
  for (int i = 0; i < kMaxLeftovers; ++i) {
    folder_ = join_path(parent, fmt::format(".{}.partial-{}-{}", name, ::getpid(), i));
    if (::mkdir(folder_.c_str(), 0777) == 0) {
      lock_ = lock_folder(folder_);
      return;
    }
    if (errno != EEXIST) break;
  }
  fail(ErrorCode::kIo, "[output] cannot create {}: {}", folder_, std::strerror(errno));
}

StagedOutput::~StagedOutput() {
  if (!is_committed_) {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  if (lock_ >= 0) ::close(lock_);
}

std::string StagedOutput::file(std::string_view name) const {
  if (!is_plain_file_name(name)) {
    fail(ErrorCode::kCorruptData, "[output] {}: got '{}', expected a plain file name", target_, name);
  }
  return join_path(folder_, name);
}

void StagedOutput::require_space(size_t n_bytes) const {
  struct statvfs info{};
  if (::statvfs(folder_.c_str(), &info) != 0 || info.f_blocks == 0) return;  // Writing will tell.
  const auto free_bytes = static_cast<double>(info.f_bavail) * static_cast<double>(info.f_frsize);
  if (static_cast<double>(n_bytes) <= free_bytes) return;
  fail(ErrorCode::kIo, "[output] {}: needs {:.1f} MB, but the file system has only {:.1f} MB left", target_,
       static_cast<double>(n_bytes) / 1e6, free_bytes / 1e6);
}

void StagedOutput::commit() {
  sync_folder(folder_);
  const std::string from = kind_ == Kind::kFile ? file(file_name(target_)) : folder_;
  if (!rename_to_new_name(from, target_)) {
    if (errno == EEXIST || errno == ENOTEMPTY) fail_exists(target_);
    fail(ErrorCode::kIo, "[output] cannot rename {} to {}: {}", from, target_, std::strerror(errno));
  }
  is_committed_ = true;
  if (kind_ == Kind::kFile) ::rmdir(folder_.c_str());
  sync_folder(parent_directory(target_));
}

}  // namespace mobilellm
