// Paged storage on anonymous mappings.
#include "backend/cpu/kv_cache.h"

#include <sys/mman.h>

#include <cstring>

#include "base/error.h"

namespace mobilellm {

namespace {

struct KvFormat {
  KvDtype dtype;
  int bytes_per_number;
  void (*KernelTable::*attend)(const AttendSpanArgs&) noexcept;
  void (*KernelTable::*store)(const StoreKvArgs&) noexcept;
};

constexpr KvFormat kFormats[] = {
    {KvDtype::kF32, 4, &KernelTable::attend_f32, &KernelTable::store_kv_f32},
    {KvDtype::kF16, 2, &KernelTable::attend_f16, &KernelTable::store_kv_f16},
    {KvDtype::kQ8, 1, &KernelTable::attend_q8, &KernelTable::store_kv_q8},
};

const KvFormat& format_of(KvDtype dtype) {
  for (const KvFormat& format : kFormats) {
    if (format.dtype == dtype) return format;
  }
  fail(ErrorCode::kInvalidArgument, "[kv cache] kv_dtype: got {}, expected f32, f16 or q8", static_cast<int>(dtype));
}

}  // namespace

KvCache::KvCache(const ModelSpec& spec, KvDtype dtype, const KernelTable& kernels) {
  const KvFormat& format = format_of(dtype);
  attend_ = kernels.*format.attend;
  store_ = kernels.*format.store;
  for (const LayerSpec& layer : spec.layers) {
    Layer l{};
    l.offset = page_bytes_;
    l.n_kv_heads = layer.n_kv_heads;
    l.head_dim = layer.head_dim;
    l.layout = kv_layout(layer.head_dim, format.bytes_per_number);
    page_bytes_ += l.layout.bytes * l.n_kv_heads;
    layers_.push_back(l);
  }
}

KvCache::~KvCache() {
  if (memory_ != nullptr) ::munmap(memory_, static_cast<size_t>(n_pages_ * page_bytes_));
}

void KvCache::reserve_pages(int n_pages) {
  if (n_pages <= n_pages_) return;
  const auto page_bytes = static_cast<size_t>(page_bytes_);
  const size_t old_bytes = static_cast<size_t>(n_pages_) * page_bytes;
  const size_t new_bytes = checked_mul(static_cast<size_t>(n_pages), page_bytes, "KV cache");
#if defined(__linux__)
  constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  void* address = memory_ == nullptr ? ::mmap(nullptr, new_bytes, PROT_READ | PROT_WRITE, kFlags, -1, 0)
                                     : ::mremap(memory_, old_bytes, new_bytes, MREMAP_MAYMOVE);
#else
  void* address = ::mmap(nullptr, new_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0);
  if (address != MAP_FAILED && memory_ != nullptr) {
    std::memcpy(address, memory_, old_bytes);
    ::munmap(memory_, old_bytes);
  }
#endif
  if (address == MAP_FAILED) {
    fail(ErrorCode::kResourceLimit,
         "[kv cache] the system refused {} MiB for {} positions; use a smaller context (--ctx)", new_bytes >> 20,
         int64_t{n_pages} * kPageTokens);
  }
#if defined(__linux__)
  // Long contexts read hundreds of megabytes a token; short ones should not take more memory than they need.
  constexpr size_t kHugeFrom = size_t{64} << 20;
  if (new_bytes >= kHugeFrom) ::madvise(address, new_bytes, MADV_HUGEPAGE);
#endif
  memory_ = static_cast<std::byte*>(address);
  n_pages_ = n_pages;
}

void KvCache::copy_page(int from, int to) {
  std::memcpy(memory_ + to * page_bytes_, memory_ + from * page_bytes_, static_cast<size_t>(page_bytes_));
}

void KvCache::store(int layer, int page, int slot, const float* key, const float* value) {
  const Layer& l = layers_[static_cast<size_t>(layer)];
  for (int i = 0; i < l.n_kv_heads; ++i) {
    const ptrdiff_t offset = static_cast<ptrdiff_t>(i) * l.head_dim;
    store_({key + offset, value + offset, l.head_dim, slot, head(layer, i) + page * page_bytes_, l.layout});
  }
}

}  // namespace mobilellm
