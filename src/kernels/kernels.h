/// Arithmetic of a forward pass: argument structs, and one table of functions per instruction set.
///
/// Rules for every kernel: it allocates nothing, knows no threads and never throws. Each output element is reduced in
/// one order that depends on its own inputs alone: sixteen f32 lanes take the columns k mod 16 in rising k with fused
/// multiply-adds, and are summed as a tree (8 + 8, 4 + 4, 2 + 2, 1 + 1). So results are the same, bit for bit, for any
/// number of tokens in a call, any split into row ranges, and any instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/cpu_features.h"

namespace mobilellm {

/// y[t * y_stride + r] = sum_k w[r][k] * x[t * x_stride + k] (+ bias[r]) for r in [0, n_rows), t in [0, n_tokens).
struct DotRowsArgs {
  const std::byte* weights;  ///< Row 0 of the range, in the kernel's row format.
  size_t row_bytes;
  int n_rows;
  int64_t n_cols;  ///< A multiple of the format's block.
  const float* x;
  int64_t x_stride;
  int n_tokens;
  float* y;
  int64_t y_stride;
  const float* bias;  ///< [n_rows] or null.
  float* scratch;     ///< [n_rows * n_cols]; may be null when n_tokens == 1 or the format is f32.
};

/// y = x / sqrt(mean(x^2) + eps) * weight; weight may be null (all ones). y may be x.
struct RmsNormArgs {
  const float* x;
  const float* weight;
  float* y;
  int64_t n;
  float eps;
};

/// out[i] = act(gate[i]) * up[i]; up may be null (out = act(gate)). out may be gate or up.
struct GatedActivationArgs {
  const float* gate;
  const float* up;
  float* out;
  int64_t n;
};

/// y[i] += x[i]
struct AddArgs {
  const float* x;
  float* y;
  int64_t n;
};

/// Positions per KV page.
inline constexpr int kPageTokens = 64;
/// Queries per attention call.
inline constexpr int kMaxQueries = 32;

/// Softmax attention of queries that share one KV head, over pages, in one pass with a running maximum.
/// Keys of a page: [head_dim][kPageTokens]; values: [kPageTokens][value_stride], value_stride = head_dim rounded up to
/// 16, padding zero.
struct AttentionArgs {
  const float* queries;  ///< [n_queries][head_dim], scaled.
  int n_queries;         ///< 1 .. kMaxQueries
  int head_dim;
  int value_stride;
  const int64_t* first;  ///< [n_queries] first visible position
  const int64_t* last;   ///< [n_queries] one past the last visible position; first < last
  const int32_t* pages;  ///< page of positions [i * kPageTokens, ...)
  const float* keys;     ///< of page 0, this layer and head
  const float* values;
  int64_t page_stride;  ///< floats from one page's keys (and values) to the next's
  float* out;           ///< [n_queries][value_stride]
};

struct KernelTable {
#define MOBILELLM_KERNEL(name, Args) void (*name)(const Args&) noexcept;
#include "kernels/kernels.inc"
#undef MOBILELLM_KERNEL
};

/// Kernels of one instruction set, which the processor must support.
const KernelTable& kernel_table(Isa isa);

}  // namespace mobilellm
