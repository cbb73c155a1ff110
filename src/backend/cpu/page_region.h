/// Memory of equally large pages that grows without copying.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mobilellm {

/// Zeroed address space, resident when first written.
class PageRegion {
 public:
  PageRegion() = default;
  ~PageRegion();
  PageRegion(const PageRegion&) = delete;
  PageRegion& operator=(const PageRegion&) = delete;

  /// Makes room for `n_bytes` (more than now) and keeps what is there; the address may change. `wants_huge_pages` is
  /// for what is read from end to end. Throws kResourceLimit when the system refuses.
  void grow(size_t n_bytes, bool wants_huge_pages);
  /// Gives the memory of whole system pages inside [offset, offset + n_bytes) back; it reads as zero afterwards.
  void forget(size_t offset, size_t n_bytes);

  std::byte* data() const { return data_; }
  size_t n_bytes() const { return n_bytes_; }

 private:
  std::byte* data_ = nullptr;
  size_t n_bytes_ = 0;
};

}  // namespace mobilellm
