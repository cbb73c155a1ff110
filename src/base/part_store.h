/// Finished parts of a long work, kept in a folder until the work is complete, so that an interrupted one can go on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mobilellm {

/// 64 bits that tell contents apart; not against an adversary.
uint64_t content_hash(std::span<const std::byte> bytes, uint64_t start = 0);

/// Every part appears whole or not at all, also when the process is killed or the disk fills up, and is checked when it
/// is loaded. The folder is locked while this lives. Not for several threads at once.
class PartStore {
 public:
  /// Makes the folder, or takes over an earlier one: its parts are kept when they were saved under the same identity,
  /// removed otherwise. `identity` is a text that names everything the parts depend on. Throws kInvalidArgument when
  /// another process uses the folder; kIo when parts cannot be kept there: it is not the user's own folder, its file
  /// system has no locks, the disk is full.
  PartStore(std::string folder, std::string identity);
  /// Removes the folder when it holds no part.
  ~PartStore();
  PartStore(const PartStore&) = delete;
  PartStore& operator=(const PartStore&) = delete;

  const std::string& folder() const { return folder_; }
  /// How many parts there are.
  int64_t n_parts() const { return n_parts_; }
  /// The bytes of a part; nothing when it is absent or damaged. Throws kIo.
  std::optional<std::vector<std::byte>> load(std::string_view name) const;
  /// Adds or replaces a part, all pieces one after the other. `name` must be a plain file name. Throws kIo, also
  /// when less than `room` bytes of the disk would be left free.
  void save(std::string_view name, std::span<const std::span<const std::byte>> pieces, double room = 0);
  /// The work is complete, or cannot be completed: removes everything.
  void remove();

 private:
  std::string part_path(std::string_view name) const;
  void open_folder();
  void adopt_or_clear();

  std::string folder_;
  std::string identity_;
  uint64_t identity_hash_;
  int64_t n_parts_ = 0;
  int lock_ = -1;
};

}  // namespace mobilellm
