/// Storage of keys and values in pages of 64 positions, in the layout the attention kernels read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "backend/backend.h"
#include "kernels/kernels.h"
#include "model/spec.h"

namespace mobilellm {

/// One page holds every layer: per layer and KV head a block as KvLayout describes. Memory is reserved as address space
/// and becomes resident when first written.
class KvCache {
 public:
  /// `dtype` is not kAuto.
  KvCache(const ModelSpec& spec, KvDtype dtype, const KernelTable& kernels);
  ~KvCache();
  KvCache(const KvCache&) = delete;
  KvCache& operator=(const KvCache&) = delete;

  /// Throws kResourceLimit when the system refuses.
  void reserve_pages(int n_pages);
  int n_pages() const { return n_pages_; }
  void copy_page(int from, int to);

  int64_t page_bytes() const { return page_bytes_; }
  const KvLayout& layout(int layer) const { return layers_[static_cast<size_t>(layer)].layout; }
  /// Of page 0; page p lies p * page_bytes() further.
  std::byte* head(int layer, int kv_head) {
    const Layer& l = layers_[static_cast<size_t>(layer)];
    return memory_ + l.offset + kv_head * l.layout.bytes;
  }
  /// Stores one position's key and value heads ([n_kv_heads][head_dim] each). Positions of one page may be stored by
  /// several threads at once.
  void store(int layer, int page, int slot, const float* key, const float* value);
  /// The kernel that reads this cache.
  void attend(const AttendSpanArgs& args) const { attend_(args); }

 private:
  struct Layer {
    int64_t offset;
    int n_kv_heads;
    int head_dim;
    KvLayout layout;
  };

  std::vector<Layer> layers_;
  void (*attend_)(const AttendSpanArgs&) noexcept;
  void (*store_)(const StoreKvArgs&) noexcept;
  int64_t page_bytes_ = 0;
  int n_pages_ = 0;
  std::byte* memory_ = nullptr;
};

}  // namespace mobilellm
