// An anonymous mapping with a hint for huge pages.
#include "base/huge_memory.h"

#include <sys/mman.h>

#include <cstdint>
#include <utility>

#include "base/error.h"

namespace mobilellm {

HugeMemory::HugeMemory(size_t n_bytes, const char* what) {
  if (n_bytes == 0) return;
  constexpr size_t kHugePage = size_t{2} << 20;
  if (n_bytes > SIZE_MAX - kHugePage) {
    fail(ErrorCode::kResourceLimit, "[memory] {} bytes for {} are more than there are addresses", n_bytes, what);
  }
  n_mapped_ = n_bytes + kHugePage;
  void* address = ::mmap(nullptr, n_mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (address == MAP_FAILED) {
    fail(ErrorCode::kResourceLimit, "[memory] the system refused {} MiB for {}", n_bytes >> 20, what);
  }
  mapping_ = address;
  n_bytes_ = n_bytes;
  const auto start = reinterpret_cast<uintptr_t>(address);
  data_ = static_cast<std::byte*>(address) + ((kHugePage - start % kHugePage) % kHugePage);
#if defined(MADV_HUGEPAGE)
  // A hint: without huge pages everything works, only slower.
  static_cast<void>(::madvise(data_, n_bytes, MADV_HUGEPAGE));
#endif
}

HugeMemory::~HugeMemory() {
  if (mapping_ != nullptr) ::munmap(mapping_, n_mapped_);
}

HugeMemory::HugeMemory(HugeMemory&& other) noexcept { *this = std::move(other); }

HugeMemory& HugeMemory::operator=(HugeMemory&& other) noexcept {
  std::swap(mapping_, other.mapping_);
  std::swap(n_mapped_, other.n_mapped_);
  std::swap(data_, other.data_);
  std::swap(n_bytes_, other.n_bytes_);
  return *this;
}

}  // namespace mobilellm
