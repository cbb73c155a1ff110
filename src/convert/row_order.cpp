// Choosing the order of rows.
#include "convert/row_order.h"

namespace mobilellm {

RowOrder::RowOrder(TensorRole role, const LayerSpec* source, const LayerSpec* target) {
  if (source == nullptr || source->rope_style == target->rope_style) return;
  switch (role) {
    case TensorRole::kQProj:
    case TensorRole::kKProj:
    case TensorRole::kQBias:
    case TensorRole::kKBias:
      head_dim_ = source->head_dim;
      to_interleaved_ = target->rope_style == RopeStyle::kInterleaved;
      return;
    default:
      return;
  }
}

}  // namespace mobilellm
