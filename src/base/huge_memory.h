/// Zeroed memory for large arrays that are read in full again and again: in huge pages where the system has them.
#pragma once

#include <cstddef>

namespace mobilellm {

/// Owns an anonymous mapping, aligned to 2 MiB. Pages become resident when they are first written.
class HugeMemory {
 public:
  HugeMemory() = default;
  /// Throws kResourceLimit naming `what` when the system refuses.
  HugeMemory(size_t n_bytes, const char* what);
  ~HugeMemory();
  HugeMemory(HugeMemory&& other) noexcept;
  HugeMemory& operator=(HugeMemory&& other) noexcept;

  std::byte* data() const { return data_; }
  size_t size() const { return n_bytes_; }

 private:
  void* mapping_ = nullptr;
  size_t n_mapped_ = 0;
  std::byte* data_ = nullptr;
  size_t n_bytes_ = 0;
};

}  // namespace mobilellm
