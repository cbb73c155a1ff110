/// Softmax attention of one sequence and one KV head, forward and backward, without a matrix of all pairs.
#pragma once

#include <cstdint>

#include "backprop/matrix_product.h"
#include "model/spec.h"

namespace mobilellm {

/// One KV head and the query heads that share it. Queries are scaled already. Strides are in floats, from one token to
/// the next; query head h lies h * head_dim after the first.
struct AttentionHeads {
  int64_t n_tokens;
  int head_dim;
  int n_queries;  ///< Query heads.
  AttentionWindow window;
  const float* q;
  int64_t q_stride;
  const float* k;
  const float* v;
  int64_t kv_stride;
};

/// Buffers of one worker.
struct AttentionWorkspace {
  PackedOperand left, keys, key_rows, values, other;
  std::vector<float> scores, d_scores;
};

/// out as q: the weighted values.
void attend(const KernelTable& kernels, const AttentionHeads& heads, float* out, AttentionWorkspace& workspace);

/// Writes d_q (as q), and d_k and d_v (as k). `out` is the result of attend().
void attend_backward(const KernelTable& kernels, const AttentionHeads& heads, const float* out, const float* d_out,
                     float* d_q, float* d_k, float* d_v, AttentionWorkspace& workspace);

}  // namespace mobilellm
