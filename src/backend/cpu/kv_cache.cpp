// Where a page's blocks lie, and which kernels read and write them.
#include "backend/cpu/kv_cache.h"

#include <cstring>

#include "base/error.h"

namespace mobilellm {

namespace {

struct KvFormat {
  KvDtype dtype;
  int bytes_per_number;
  bool has_scales;
  void (*KernelTable::*attend)(const AttendSpanArgs&) noexcept;
  void (*KernelTable::*store)(const StoreKvArgs&) noexcept;
};

constexpr KvFormat kFormats[] = {
    {KvDtype::kF32, 4, false, &KernelTable::attend_f32, &KernelTable::store_kv_f32},
    {KvDtype::kF16, 2, false, &KernelTable::attend_f16, &KernelTable::store_kv_f16},
    {KvDtype::kI16, 2, true, &KernelTable::attend_i16, &KernelTable::store_kv_i16},
    {KvDtype::kQ8, 1, true, &KernelTable::attend_q8, &KernelTable::store_kv_q8},
};

const KvFormat& format_of(KvDtype dtype) {
  for (const KvFormat& format : kFormats) {
    if (format.dtype == dtype) return format;
  }
  fail(ErrorCode::kInvalidArgument, "[kv cache] kv_dtype: got {}, expected f32, f16, i16 or q8",
       static_cast<int>(dtype));
}

}  // namespace

KvCache::KvCache(const ModelSpec& spec, KvDtype dtype, const KernelTable& kernels) {
  const KvFormat& format = format_of(dtype);
  attend_ = kernels.*format.attend;
  store_ = kernels.*format.store;
  for (const LayerSpec& layer : spec.layers) {
    const bool has_window = layer.window.kind != AttentionWindow::Kind::kFull;
    Part& part = parts_[has_window ? 1 : 0];
    Layer l{};
    l.part = has_window ? 1 : 0;
    l.offset = part.page_bytes;
    l.n_kv_heads = layer.n_kv_heads;
    l.head_dim = layer.head_dim;
    l.layout = kv_layout(layer.head_dim, format.bytes_per_number, format.has_scales);
    part.page_bytes += l.layout.bytes * l.n_kv_heads;
    layers_.push_back(l);
    // Small windows give their memory back in small pieces, and read little.
    constexpr int64_t kLargeWindow = 4096;
    if (has_window && layer.window.size < kLargeWindow) part.wants_huge_pages = false;
  }
  // So that a page's window part fills system pages.
  constexpr int64_t kSystemPage = 4096;
  parts_[1].page_bytes = (parts_[1].page_bytes + kSystemPage - 1) / kSystemPage * kSystemPage;
}

void KvCache::reserve_pages(int n_pages) {
  if (n_pages <= n_pages_) return;
  for (Part& part : parts_) {
    const size_t n_bytes = checked_mul(static_cast<size_t>(n_pages), static_cast<size_t>(part.page_bytes), "KV cache");
    // The first may have grown before the second one was refused.
    if (n_bytes > part.memory.n_bytes()) part.memory.grow(n_bytes, part.wants_huge_pages);
  }
  n_pages_ = n_pages;
}

void KvCache::copy_page(int from, int to) {
  for (const Part& part : parts_) {
    if (part.page_bytes == 0) continue;
    std::memcpy(part.memory.data() + to * part.page_bytes, part.memory.data() + from * part.page_bytes,
                static_cast<size_t>(part.page_bytes));
  }
}

void KvCache::forget_window(int page) {
  const Part& part = parts_[1];
  if (part.page_bytes == 0) return;
  parts_[1].memory.forget(static_cast<size_t>(page * part.page_bytes), static_cast<size_t>(part.page_bytes));
}

void KvCache::store(int layer, int page, int slot, const float* key, const float* value) {
  const Layer& l = layers_[static_cast<size_t>(layer)];
  for (int i = 0; i < l.n_kv_heads; ++i) {
    const ptrdiff_t offset = static_cast<ptrdiff_t>(i) * l.head_dim;
    store_({key + offset, value + offset, l.head_dim, slot, head(layer, i) + page * page_bytes(layer), l.layout});
  }
}

}  // namespace mobilellm
