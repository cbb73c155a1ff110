/// Storage of keys and values in pages of 64 positions, in the layout the attention kernel reads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/kernels.h"
#include "model/spec.h"

namespace mobilellm {

/// One page holds every layer: per layer and KV head, keys [head_dim][64] (so that lanes are positions), then values
/// [64][value_stride]. Memory is reserved as address space and becomes resident when first written.
class KvCache {
 public:
  explicit KvCache(const ModelSpec& spec);
  ~KvCache();
  KvCache(const KvCache&) = delete;
  KvCache& operator=(const KvCache&) = delete;

  /// Throws kResourceLimit when the system refuses.
  void reserve_pages(int n_pages);
  int n_pages() const { return n_pages_; }
  void copy_page(int from, int to);

  int64_t page_floats() const { return page_floats_; }
  int value_stride(int layer) const { return layers_[static_cast<size_t>(layer)].value_stride; }
  /// Of page 0; page p lies p * page_floats() further.
  float* keys(int layer, int kv_head) { return memory_ + offset(layer, kv_head); }
  float* values(int layer, int kv_head);
  /// Stores one position's key and value heads ([n_kv_heads][head_dim] each).
  void store(int layer, int page, int slot, const float* key, const float* value);

 private:
  struct Layer {
    int64_t offset;
    int64_t head_floats;
    int n_kv_heads;
    int head_dim;
    int value_stride;
  };
  int64_t offset(int layer, int kv_head) const {
    const Layer& l = layers_[static_cast<size_t>(layer)];
    return l.offset + kv_head * l.head_floats;
  }

  std::vector<Layer> layers_;
  int64_t page_floats_ = 0;
  int n_pages_ = 0;
  float* memory_ = nullptr;
};

}  // namespace mobilellm
