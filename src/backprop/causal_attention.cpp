// Attention in blocks of queries: each block sees the keys up to its last query.
#include "backprop/causal_attention.h"

#include <algorithm>

namespace mobilellm {
namespace {

constexpr int64_t kQueryBlock = 64;

// Softmax of the scores of queries [begin, end) over what each sees of keys [0, end); the others become 0.
void normalize(const KernelTable& kernels, const AttentionHeads& heads, int64_t begin, int64_t end, float* scores) {
  for (int64_t i = begin; i < end; ++i) {
    float* row = scores + (i - begin) * end;
    const int64_t first = heads.window.first_visible(i);
    kernels.softmax({row + first, row + first, i + 1 - first, 1.0F, nullptr});
    std::fill(row, row + first, 0.0F);
    std::fill(row + i + 1, row + end, 0.0F);
  }
}

}  // namespace

void attend(const KernelTable& kernels, const AttentionHeads& heads, float* out, AttentionWorkspace& workspace) {
  const int64_t n = heads.n_tokens;
  const int dim = heads.head_dim;
  workspace.keys.pack_right(row_major(heads.k, heads.kv_stride).transposed(), dim, n);
  workspace.values.pack_right(row_major(heads.v, heads.kv_stride), n, dim);
  workspace.scores.resize(static_cast<size_t>(kQueryBlock * n));
  for (int head = 0; head < heads.n_queries; ++head) {
    for (int64_t begin = 0; begin < n; begin += kQueryBlock) {
      const int64_t end = std::min(n, begin + kQueryBlock);
      const int64_t offset = begin * heads.q_stride + int64_t{head} * dim;
      float* scores = workspace.scores.data();
      workspace.left.pack_left(row_major(heads.q + offset, heads.q_stride), end - begin, dim);
      multiply_packed(kernels, workspace.left, workspace.keys, dim, end, scores, end, false);
      normalize(kernels, heads, begin, end, scores);
      workspace.left.pack_left(row_major(scores, end), end - begin, end);
      multiply_packed(kernels, workspace.left, workspace.values, end, dim, out + offset, heads.q_stride, false);
    }
  }
}

void attend_backward(const KernelTable& kernels, const AttentionHeads& heads, const float* out, const float* d_out,
                     float* d_q, float* d_k, float* d_v, AttentionWorkspace& workspace) {
  const int64_t n = heads.n_tokens;
  const int dim = heads.head_dim;
  workspace.scores.resize(static_cast<size_t>(kQueryBlock * n));
  workspace.d_scores.resize(workspace.scores.size());
  float* scores = workspace.scores.data();
  float* d_scores = workspace.d_scores.data();
  // K^T, V^T and K as right operands.
  PackedOperand& keys = workspace.keys;
  PackedOperand& values = workspace.values;
  PackedOperand& key_rows = workspace.key_rows;
  keys.pack_right(row_major(heads.k, heads.kv_stride).transposed(), dim, n);
  values.pack_right(row_major(heads.v, heads.kv_stride).transposed(), dim, n);
  key_rows.pack_right(row_major(heads.k, heads.kv_stride), n, dim);
  for (int64_t i = 0; i < n; ++i) {
    std::fill_n(d_k + i * heads.kv_stride, dim, 0.0F);
    std::fill_n(d_v + i * heads.kv_stride, dim, 0.0F);
  }
  for (int head = 0; head < heads.n_queries; ++head) {
    for (int64_t begin = 0; begin < n; begin += kQueryBlock) {
      const int64_t end = std::min(n, begin + kQueryBlock);
      const int64_t rows = end - begin;
      const int64_t offset = begin * heads.q_stride + int64_t{head} * dim;
      const MatrixRef q = row_major(heads.q + offset, heads.q_stride);
      const MatrixRef d_o = row_major(d_out + offset, heads.q_stride);
      workspace.left.pack_left(q, rows, dim);
      multiply_packed(kernels, workspace.left, keys, dim, end, scores, end, false);
      normalize(kernels, heads, begin, end, scores);
      workspace.left.pack_left(d_o, rows, dim);
      multiply_packed(kernels, workspace.left, values, dim, end, d_scores, end, false);
      // dV += P^T dO
      workspace.other.pack_right(d_o, rows, dim);
      workspace.left.pack_left(row_major(scores, end).transposed(), end, rows);
      multiply_packed(kernels, workspace.left, workspace.other, rows, dim, d_v, heads.kv_stride, true);
      for (int64_t i = 0; i < rows; ++i) {
        const float* o = out + offset + i * heads.q_stride;
        float mean = 0.0F;
        for (int d = 0; d < dim; ++d) mean += o[d] * *d_o.at(i, d);
        float* row = d_scores + i * end;
        for (int64_t j = 0; j < end; ++j) row[j] = scores[i * end + j] * (row[j] - mean);
      }
      workspace.left.pack_left(row_major(d_scores, end), rows, end);
      multiply_packed(kernels, workspace.left, key_rows, end, dim, d_q + offset, heads.q_stride, false);
      // dK += dS^T Q
      workspace.other.pack_right(q, rows, dim);
      workspace.left.pack_left(row_major(d_scores, end).transposed(), end, rows);
      multiply_packed(kernels, workspace.left, workspace.other, rows, dim, d_k, heads.kv_stride, true);
    }
  }
}

}  // namespace mobilellm
