/// Storage of keys and values in pages of 64 positions, in the layout the attention kernels read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "backend/backend.h"
#include "backend/cpu/page_region.h"
#include "kernels/kernels.h"
#include "model/spec.h"

namespace mobilellm {

/// A page has two parts, in two regions: layers that see everything, and layers with a window, whose part may be
/// forgotten. In each, per layer and KV head a block as KvLayout describes. Memory is reserved as address space and
/// becomes resident when first written.
class KvCache {
 public:
  /// `dtype` is not kAuto.
  KvCache(const ModelSpec& spec, KvDtype dtype, const KernelTable& kernels);
  KvCache(const KvCache&) = delete;
  KvCache& operator=(const KvCache&) = delete;

  /// Throws kResourceLimit when the system refuses.
  void reserve_pages(int n_pages);
  int n_pages() const { return n_pages_; }
  void copy_page(int from, int to);
  /// Gives the memory of a page's window part back.
  void forget_window(int page);

  /// Of layers that see everything.
  size_t full_bytes_per_token() const { return static_cast<size_t>(parts_[0].page_bytes) / kPageTokens; }
  /// Of layers with a window.
  size_t window_bytes_per_token() const { return static_cast<size_t>(parts_[1].page_bytes) / kPageTokens; }
  int64_t page_bytes(int layer) const { return parts_[layers_[static_cast<size_t>(layer)].part].page_bytes; }
  const KvLayout& layout(int layer) const { return layers_[static_cast<size_t>(layer)].layout; }
  /// Of page 0; page p lies p * page_bytes(layer) further.
  std::byte* head(int layer, int kv_head) {
    const Layer& l = layers_[static_cast<size_t>(layer)];
    return parts_[l.part].memory.data() + l.offset + kv_head * l.layout.bytes;
  }
  /// Stores one position's key and value heads ([n_kv_heads][head_dim] each). Positions of one page may be stored by
  /// several threads at once.
  void store(int layer, int page, int slot, const float* key, const float* value);
  /// The kernel that reads this cache.
  void attend(const AttendSpanArgs& args) const { attend_(args); }

 private:
  struct Part {
    PageRegion memory;
    int64_t page_bytes = 0;
    bool wants_huge_pages = true;
  };
  struct Layer {
    size_t part;
    int64_t offset;
    int n_kv_heads;
    int head_dim;
    KvLayout layout;
  };

  std::vector<Layer> layers_;
  void (*attend_)(const AttendSpanArgs&) noexcept;
  void (*store_)(const StoreKvArgs&) noexcept;
  Part parts_[2];  // Full, windows.
  int n_pages_ = 0;
};

}  // namespace mobilellm
