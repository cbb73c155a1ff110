// Anonymous mappings at addresses that are multiples of a huge page, so that moving one keeps its huge pages whole.
#include "backend/cpu/page_region.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstring>

#include "base/error.h"

namespace mobilellm {
namespace {

constexpr size_t kHugePageBytes = size_t{2} << 20;

#if defined(MAP_NORESERVE) && defined(MAP_ANONYMOUS)
constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
#else
constexpr int kFlags = MAP_PRIVATE | MAP_ANON;
#endif

[[noreturn]] void fail_refused(size_t n_bytes) {
  fail(ErrorCode::kResourceLimit,
       "[kv cache] the system refused {} MiB for keys and values; use a smaller context (--ctx)", n_bytes >> 20);
}

// A mapping without access, aligned.
std::byte* reserve_aligned(size_t n_bytes) {
  const size_t with_room = checked_add(n_bytes, kHugePageBytes, "KV cache");
  void* const mapping = ::mmap(nullptr, with_room, PROT_NONE, kFlags, -1, 0);
  if (mapping == MAP_FAILED) fail_refused(n_bytes);
  auto* const begin = static_cast<std::byte*>(mapping);
  const size_t before = (kHugePageBytes - reinterpret_cast<uintptr_t>(mapping) % kHugePageBytes) % kHugePageBytes;
  if (before > 0) ::munmap(begin, before);
  if (before < kHugePageBytes) ::munmap(begin + before + n_bytes, kHugePageBytes - before);
  return begin + before;
}

size_t round_up(size_t n, size_t step) { return checked_add(n, step - 1, "KV cache") / step * step; }

}  // namespace

PageRegion::~PageRegion() {
  if (data_ != nullptr) ::munmap(data_, n_bytes_);
}

void PageRegion::grow(size_t n_bytes, bool wants_huge_pages) {
  n_bytes = round_up(n_bytes, static_cast<size_t>(::sysconf(_SC_PAGESIZE)));
  MOBILELLM_CHECK(n_bytes > n_bytes_);
  std::byte* const target = reserve_aligned(n_bytes);
  void* address = MAP_FAILED;
#if defined(__linux__)
  if (data_ != nullptr) {
    address = ::mremap(data_, n_bytes_, n_bytes, MREMAP_MAYMOVE | MREMAP_FIXED, target);
  } else {
    address = ::mmap(target, n_bytes, PROT_READ | PROT_WRITE, kFlags | MAP_FIXED, -1, 0);
  }
#else
  address = ::mmap(target, n_bytes, PROT_READ | PROT_WRITE, kFlags | MAP_FIXED, -1, 0);
  if (address != MAP_FAILED && data_ != nullptr) {
    std::memcpy(address, data_, n_bytes_);
    ::munmap(data_, n_bytes_);
  }
#endif
  // What is reserved stays so: by now it may be another thread's.
  if (address == MAP_FAILED) fail_refused(n_bytes);
  data_ = static_cast<std::byte*>(address);
  n_bytes_ = n_bytes;
#if defined(MADV_HUGEPAGE)
  // Refused where huge pages are off, which costs speed only.
  if (wants_huge_pages) (void)::madvise(data_, n_bytes_, MADV_HUGEPAGE);
#else
  (void)wants_huge_pages;
#endif
}

void PageRegion::forget(size_t offset, size_t n_bytes) {
#if defined(__linux__)
  const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  const size_t begin = round_up(offset, page);
  const size_t end = (offset + n_bytes) / page * page;
  if (begin < end) (void)::madvise(data_ + begin, end - begin, MADV_DONTNEED);
#else
  (void)offset;
  (void)n_bytes;
#endif
}

}  // namespace mobilellm
