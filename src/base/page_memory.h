/// Large anonymous memory on huge pages where the system has them.
#pragma once

#include <cstddef>
#include <span>

namespace mobilellm {

/// Zeroed, aligned to 2 MiB, resident when first written. Movable, frees itself.
class PageMemory {
 public:
  PageMemory() = default;
  /// Throws kResourceLimit when the system refuses.
  explicit PageMemory(size_t n_bytes);
  ~PageMemory();
  PageMemory(PageMemory&& other) noexcept;
  PageMemory& operator=(PageMemory&& other) noexcept;

  std::span<std::byte> bytes() const { return {data_, n_bytes_}; }

 private:
  void* mapping_ = nullptr;
  size_t mapped_bytes_ = 0;
  std::byte* data_ = nullptr;
  size_t n_bytes_ = 0;
};

}  // namespace mobilellm
