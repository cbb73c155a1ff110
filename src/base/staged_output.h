/// A file or folder that appears under its name only when it is complete.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace mobilellm {

/// Everything is written into a hidden folder beside the target; commit() moves it to its name, the destructor of one
/// that was not committed removes it. Only a process that is killed outright leaves ".NAME.partial-..." behind, and the
/// next output of that name removes it.
class StagedOutput {
 public:
  enum class Kind {
    kFile,    ///< The target is the one file file(file_name(target)).
    kFolder,  ///< The target is a folder of files.
  };

  /// The target without slashes at its end, before any work for it is done. Throws kInvalidArgument when it exists or
  /// is no name, kNotFound when its parent folder does not exist.
  static std::string check_target(std::string target);
  /// Throws as check_target(), kIo otherwise.
  StagedOutput(std::string target, Kind kind);
  ~StagedOutput();
  StagedOutput(const StagedOutput&) = delete;
  StagedOutput& operator=(const StagedOutput&) = delete;

  const std::string& target() const { return target_; }
  Kind kind() const { return kind_; }
  /// Where to write a file of this name. Throws kCorruptData unless it is a plain file name.
  std::string file(std::string_view name) const;
  /// Throws kIo when the file system has less room than this.
  void require_space(size_t n_bytes) const;
  /// Throws kInvalidArgument when something appeared at the target meanwhile, kIo otherwise; nothing is replaced.
  void commit();

 private:
  std::string target_;
  Kind kind_;
  std::string folder_;
  int lock_ = -1;  // Descriptor of the folder, locked while this lives: what is not locked has no owner.
  bool is_committed_ = false;
};

}  // namespace mobilellm
