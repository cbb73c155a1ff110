// Paged storage on anonymous mappings.
#include "backend/cpu/kv_cache.h"

#include <sys/mman.h>

#include <cstring>

#include "base/error.h"

namespace mobilellm {

KvCache::KvCache(const ModelSpec& spec) {
  for (const LayerSpec& layer : spec.layers) {
    Layer l{};
    l.offset = page_floats_;
    l.n_kv_heads = layer.n_kv_heads;
    l.head_dim = layer.head_dim;
    l.value_stride = (layer.head_dim + 15) / 16 * 16;
    l.head_floats = int64_t{kPageTokens} * (l.head_dim + l.value_stride);
    page_floats_ += l.head_floats * l.n_kv_heads;
    layers_.push_back(l);
  }
}

KvCache::~KvCache() {
  if (memory_ != nullptr) ::munmap(memory_, static_cast<size_t>(n_pages_ * page_floats_) * sizeof(float));
}

void KvCache::reserve_pages(int n_pages) {
  if (n_pages <= n_pages_) return;
  const size_t page_bytes = static_cast<size_t>(page_floats_) * sizeof(float);
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
  memory_ = static_cast<float*>(address);
  n_pages_ = n_pages;
}

void KvCache::copy_page(int from, int to) {
  std::memcpy(memory_ + to * page_floats_, memory_ + from * page_floats_,
              static_cast<size_t>(page_floats_) * sizeof(float));
}

float* KvCache::values(int layer, int kv_head) {
  return keys(layer, kv_head) + int64_t{kPageTokens} * layers_[static_cast<size_t>(layer)].head_dim;
}

void KvCache::store(int layer, int page, int slot, const float* key, const float* value) {
  const Layer& l = layers_[static_cast<size_t>(layer)];
  for (int head = 0; head < l.n_kv_heads; ++head) {
    float* keys_of_head = keys(layer, head) + page * page_floats_;
    float* values_of_head = values(layer, head) + page * page_floats_;
    for (int d = 0; d < l.head_dim; ++d) keys_of_head[d * kPageTokens + slot] = key[head * l.head_dim + d];
    std::memcpy(values_of_head + int64_t{slot} * l.value_stride, value + static_cast<ptrdiff_t>(head) * l.head_dim,
                static_cast<size_t>(l.head_dim) * sizeof(float));
  }
}

}  // namespace mobilellm
