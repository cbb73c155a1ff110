/// Order of the rows of query and key projections, which depends on how a file's readers rotate them.
#pragma once

#include <cstdint>

#include "model/spec.h"
#include "model/tensor_table.h"

namespace mobilellm {

/// Which source row becomes a target row. Half-split rotation pairs rows (i, i + head_dim / 2) of a head, interleaved
/// rotation (2i, 2i + 1); moving the rows keeps the pairs.
class RowOrder {
 public:
  /// For one tensor of a layer that both files describe; the identity for everything but q and k of layers whose style
  /// differs.
  RowOrder(TensorRole role, const LayerSpec* source, const LayerSpec* target);

  bool is_identity() const { return head_dim_ == 0; }
  int64_t source_row(int64_t target_row) const {
    if (is_identity()) return target_row;
    const int64_t head = target_row / head_dim_ * head_dim_;
    const int64_t row = target_row % head_dim_;
    const int64_t half = head_dim_ / 2;
    return head + (to_interleaved_ ? row % 2 * half + row / 2 : row % half * 2 + row / half);
  }

 private:
  int64_t head_dim_ = 0;
  bool to_interleaved_ = false;
};

}  // namespace mobilellm
