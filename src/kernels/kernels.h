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
#include "kernels/panels.h"

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
/// Positions per span, the unit in which attention is computed and merged. Part of the arithmetic: another number gives
/// other bits.
inline constexpr int kSpanTokens = 512;
inline constexpr int kSpanPages = kSpanTokens / kPageTokens;
/// Queries per attention call.
inline constexpr int kMaxQueries = 96;
/// Floats before the values of a part: [0] maximum of the scores, [1] sum of the weights.
inline constexpr int kPartHeader = 16;

/// Where things lie in one page of one KV head, in bytes: keys [head_dim][kPageTokens] at 0, then values
/// [kPageTokens][value_stride]; with scales, then f32 scales [kPageTokens] of each. 16-bit integers lie in pairs: keys
/// [head_dim / 2][kPageTokens][2 channels], values [kPageTokens / 2][value_stride][2 positions].
struct KvLayout {
  int value_stride;  ///< head_dim rounded up to 16, padding zero.
  int64_t values;
  int64_t key_scales;
  int64_t value_scales;
  int64_t bytes;  ///< Of all; a multiple of 64.
};

/// `bytes_per_number` is 4 (f32), 2 (f16, or i16 with scales) or 1 (q8, with scales). head_dim is even.
constexpr KvLayout kv_layout(int head_dim, int bytes_per_number, bool has_scales) {
  KvLayout layout{};
  layout.value_stride = (head_dim + 15) / 16 * 16;
  layout.values = int64_t{kPageTokens} * head_dim * bytes_per_number;
  layout.key_scales = layout.values + int64_t{kPageTokens} * layout.value_stride * bytes_per_number;
  const int64_t scale_bytes = has_scales ? int64_t{kPageTokens} * 4 : 0;
  layout.value_scales = layout.key_scales + scale_bytes;
  layout.bytes = layout.value_scales + scale_bytes;
  return layout;
}

/// A query and what it sees of a span: positions [lo, hi) counted from the span's first, lo < hi.
struct SpanQuery {
  const float* query;  ///< [head_dim], scaled.
  float* part;         ///< [kPartHeader + value_stride]: its weighted values, see AttendSpanArgs.
  int lo;
  int hi;
};

/// Softmax attention of queries that share one KV head, over one span: part = {m, s, v} with m = max score,
/// s = sum exp(score - m), v = sum exp(score - m) * value.
struct AttendSpanArgs {
  const SpanQuery* queries;
  int n_queries;  ///< 1 .. kMaxQueries
  const int32_t*
      pages;            ///< Page i holds positions [i * kPageTokens, ...) of the span; as many as the largest hi needs.
  const std::byte* kv;  ///< Page 0 of this layer and head.
  int64_t page_bytes;   ///< From one page to the next.
  int head_dim;
  KvLayout layout;
  float* scratch;  ///< attend_scratch_floats(n_queries, value_stride)
  /// Pages (of head next_kv) that the same thread will probably read next; fetched ahead. n_next_pages may be 0.
  const std::byte* next_kv;
  const int32_t* next_pages;
  int n_next_pages;
  bool accumulates;  ///< Parts hold earlier spans ([1] = 0: none) and this one is merged in; else they are overwritten.
};

constexpr int64_t attend_scratch_floats(int n_queries, int value_stride) {
  return int64_t{n_queries} * (kSpanTokens + kPartHeader + value_stride) + int64_t{kPageTokens} * value_stride;
}

/// Merges parts of one query in rising order (into the first one) and writes the result.
struct MergeSpansArgs {
  float* parts;         ///< n_parts >= 1 of them.
  int64_t part_stride;  ///< floats
  int n_parts;
  int head_dim;
  float* out;  ///< [head_dim]
};

/// Stores key and value of one position and head. f16: what is too large becomes the largest number. Integers: numbers
/// are scaled so that the largest one is 127 (q8) or 4095 (i16; less for keys of more than 256 channels).
struct StoreKvArgs {
  const float* key;    ///< [head_dim]
  const float* value;  ///< [head_dim]
  int head_dim;
  int slot;       ///< Position in the page.
  std::byte* kv;  ///< This page, layer and head.
  KvLayout layout;
};

/// Rows and columns of a tile of product_tile.
inline constexpr int kTileRows = 8;
inline constexpr int kTileCols = 48;

/// c[i][j] = (accumulates ? c[i][j] : 0) + sum_k a[k][i] * b[k][j], in rising k with fused multiply-adds: one chain, so
/// cutting k into several calls changes nothing.
struct ProductTileArgs {
  const float* a;  ///< [k][kTileRows]
  const float* b;  ///< [k][kTileCols]
  int64_t k;
  float* c;
  int64_t c_stride;
  int n_rows;  ///< 1 .. kTileRows
  int n_cols;  ///< 1 .. kTileCols
  bool accumulates;
};

/// y[i] = factor * exp(x[i] - max) / sum, with max over x and sum of exp(x[i] - max). y may be x.
struct SoftmaxArgs {
  const float* x;
  float* y;
  int64_t n;
  float factor;
  float* max_and_sum;  ///< [2], or null.
};

/// The gradient of a divergence: student[i] = factor * (softmax(student / T)[i] - softmax(teacher / T)[i]).
struct SoftmaxDifferenceArgs {
  const float* teacher;
  float* student;
  int64_t n;
  float inverse_temperature;
  float factor;
  /// [5]: maximum and sum of teacher / T, of student / T, and sum of exp(teacher / T - its maximum) * (teacher -
  /// student) / T.
  float* sums;
};

/// Gradients of out[i] = act(gate[i]) * up[i]; up (and d_up) may be null. d_gate may be gate and d_up may be up.
struct GatedBackwardArgs {
  const float* gate;
  const float* up;
  const float* d_out;
  float* d_gate;
  float* d_up;
  int64_t n;
};

/// A grid x ~ scale * q + bias, and what `xq` below takes x relative to. `scale` is a normal number.
struct GridLine {
  float scale;
  float bias;
  float center;
};

/// Sums over a group: of w q, w q^2 and w q (x - center), for the codes q that a line rounds x to.
struct GridSums {
  float q;
  float qq;
  float xq;
};

/// sums[i] for lines[i], with q = round((x - bias) / scale) in [low, high].
struct GridSumsArgs {
  const float* x;        ///< [n]
  const float* weights;  ///< [n]
  int n;                 ///< A multiple of 16.
  float low;
  float high;
  const GridLine* lines;
  int n_lines;
  GridSums* sums;
};

/// errors[i] = sum of w (scale q + bias - x)^2, with the same codes.
struct GridErrorsArgs {
  const float* x;
  const float* weights;
  int n;
  float low;
  float high;
  const GridLine* lines;
  int n_lines;
  float* errors;
};

struct KernelTable {
#define MOBILELLM_KERNEL(name, Args) void (*name)(const Args&) noexcept;
#include "kernels/kernels.inc"
#undef MOBILELLM_KERNEL
};

/// Kernels of one instruction set, which the processor must support.
const KernelTable& kernel_table(Isa isa);

}  // namespace mobilellm
