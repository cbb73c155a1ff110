// An anonymous mapping with room to align it, and the request for huge pages.
#include "base/page_memory.h"

#include <sys/mman.h>

#include <cstdint>
#include <utility>

#include "base/error.h"

namespace mobilellm {
namespace {

constexpr size_t kHugePageBytes = size_t{2} << 20;

}  // namespace

PageMemory::PageMemory(size_t n_bytes) : n_bytes_(n_bytes) {
  if (n_bytes == 0) return;
  mapped_bytes_ = checked_add(n_bytes, kHugePageBytes, "memory");
#if defined(MAP_ANONYMOUS)
  constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS;
#else
  constexpr int kFlags = MAP_PRIVATE | MAP_ANON;
#endif
  mapping_ = ::mmap(nullptr, mapped_bytes_, PROT_READ | PROT_WRITE, kFlags, -1, 0);
  if (mapping_ == MAP_FAILED) {
    mapping_ = nullptr;
    fail(ErrorCode::kResourceLimit, "[memory] the system refused {} MiB", n_bytes >> 20);
  }
  const auto address = reinterpret_cast<uintptr_t>(mapping_);
  data_ = static_cast<std::byte*>(mapping_) + (kHugePageBytes - address % kHugePageBytes) % kHugePageBytes;
#if defined(MADV_HUGEPAGE)
  // Refused where huge pages are off, which costs speed only.
  (void)::madvise(data_, n_bytes_, MADV_HUGEPAGE);
#endif
}

PageMemory::~PageMemory() {
  if (mapping_ != nullptr) ::munmap(mapping_, mapped_bytes_);
}

PageMemory::PageMemory(PageMemory&& other) noexcept
    : mapping_(std::exchange(other.mapping_, nullptr)),
      mapped_bytes_(std::exchange(other.mapped_bytes_, 0)),
      data_(std::exchange(other.data_, nullptr)),
      n_bytes_(std::exchange(other.n_bytes_, 0)) {}

PageMemory& PageMemory::operator=(PageMemory&& other) noexcept {
  std::swap(mapping_, other.mapping_);
  std::swap(mapped_bytes_, other.mapped_bytes_);
  std::swap(data_, other.data_);
  std::swap(n_bytes_, other.n_bytes_);
  return *this;
}

}  // namespace mobilellm
