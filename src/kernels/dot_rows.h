// Matrix-vector and matrix-matrix products over row-major weights in several row formats; included by each ISA file
// after its vec16 header.
#include "kernels/kernels.h"

namespace {

using mobilellm::DotRowsArgs;

// A row format loads kVectors * 16 consecutive weights at column k (a multiple of that), kBytes of a row, as f32.
// Plain formats also load a partial vector at the end of a row.
struct RowF32 {
  static constexpr int kVectors = 1;
  static constexpr int kBytes = 64;
  static constexpr bool kHasTail = true;
  static void load(const std::byte* row, int64_t k, Vec16* out) { out[0] = Vec16::load(row + 4 * k); }
  static Vec16 load_tail(const std::byte* row, int64_t k, int n) { return Vec16::load_partial(row + 4 * k, n); }
};

// Copies a short tail so that no byte past the row is touched.
template <Vec16 (*kLoad)(const void*)>
struct Row16Bit {
  static constexpr int kVectors = 1;
  static constexpr int kBytes = 32;
  static constexpr bool kHasTail = true;
  static void load(const std::byte* row, int64_t k, Vec16* out) { out[0] = kLoad(row + 2 * k); }
  static Vec16 load_tail(const std::byte* row, int64_t k, int n) {
    uint16_t buffer[16] = {};
    __builtin_memcpy(buffer, row + 2 * k, sizeof(uint16_t) * static_cast<size_t>(n));
    return kLoad(buffer);
  }
};
using RowF16 = Row16Bit<&Vec16::load_f16>;
using RowBf16 = Row16Bit<&Vec16::load_bf16>;

inline float load_half(const std::byte* p) {
  uint16_t bits = 0;
  __builtin_memcpy(&bits, p, 2);
  return half_to_float(bits);
}

// GGUF blocks of 32 values; see codec/gguf_legacy.cpp for the layouts. w = d * q.
struct RowQ8_0 {
  static constexpr int kVectors = 2;
  static constexpr int kBytes = 34;
  static constexpr bool kHasTail = false;
  static void load(const std::byte* row, int64_t k, Vec16* out) {
    const std::byte* block = row + k / 32 * 34;
    const Vec16 d = Vec16::set1(load_half(block));
    out[0] = d * Vec16::load_i8(block + 2);
    out[1] = d * Vec16::load_i8(block + 18);
  }
};

// w = d * q - 8 d, exact in f32 like d * (q - 8); low nibbles hold values 0..15, high nibbles 16..31.
struct RowQ4_0 {
  static constexpr int kVectors = 2;
  static constexpr int kBytes = 18;
  static constexpr bool kHasTail = false;
  static void load(const std::byte* row, int64_t k, Vec16* out) {
    const std::byte* block = row + k / 32 * 18;
    const float scale = load_half(block);
    const Vec16 d = Vec16::set1(scale);
    const Vec16 m = Vec16::set1(-8.0F * scale);
    Vec16 low;
    Vec16 high;
    Vec16::load_nibbles(block + 2, low, high);
    out[0] = Vec16::fma(d, low, m);
    out[1] = Vec16::fma(d, high, m);
  }
};

// w = d * q + m. The product is exact in f32 (11 + 4 bits), so fusing it changes nothing.
struct RowQ4_1 {
  static constexpr int kVectors = 2;
  static constexpr int kBytes = 20;
  static constexpr bool kHasTail = false;
  static void load(const std::byte* row, int64_t k, Vec16* out) {
    const std::byte* block = row + k / 32 * 20;
    const Vec16 d = Vec16::set1(load_half(block));
    const Vec16 m = Vec16::set1(load_half(block + 2));
    Vec16 low;
    Vec16 high;
    Vec16::load_nibbles(block + 4, low, high);
    out[0] = Vec16::fma(d, low, m);
    out[1] = Vec16::fma(d, high, m);
  }
};

template <typename Row, int kRows, int kTokens>
void dot_tile(const DotRowsArgs& a, const std::byte* w, size_t row_bytes, int row, int token) {
  constexpr int kStep = 16 * Row::kVectors;
  Vec16 acc[kRows][kTokens];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) acc[r][t] = Vec16::zero();
  }
  const float* x = a.x + token * a.x_stride;
  // Rows are walked side by side, which the hardware's prefetchers do not see as one stream. The next tile lies behind
  // this one: asking for it in the order of addresses reads memory at its full speed.
  // (Not of rows that are parts of longer ones, whose next bytes are other columns.)
  const bool is_packed = static_cast<int64_t>(row_bytes) == a.n_cols / kStep * Row::kBytes;
  const std::byte* next = w + (is_packed ? static_cast<size_t>(kRows) * row_bytes : 0);
  int64_t k = 0;
  for (; k + kStep <= a.n_cols; k += kStep) {
    if constexpr (kTokens == 1) {
      for (int byte = 0; byte < kRows * Row::kBytes; byte += 64) __builtin_prefetch(next + byte);
      next += kRows * Row::kBytes;
    }
    Vec16 weights[kRows][Row::kVectors];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) Row::load(w + static_cast<size_t>(r) * row_bytes, k, weights[r]);
#pragma GCC unroll 2
    for (int v = 0; v < Row::kVectors; ++v) {
#pragma GCC unroll 8
      for (int t = 0; t < kTokens; ++t) {
        const Vec16 xv = Vec16::load(x + t * a.x_stride + k + 16 * v);
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) acc[r][t] = Vec16::fma(weights[r][v], xv, acc[r][t]);
      }
    }
  }
  if constexpr (Row::kHasTail) {
    if (k < a.n_cols) {
      const int n = static_cast<int>(a.n_cols - k);
      for (int r = 0; r < kRows; ++r) {
        const Vec16 weights = Row::load_tail(w + static_cast<size_t>(r) * row_bytes, k, n);
        for (int t = 0; t < kTokens; ++t) {
          acc[r][t] = Vec16::fma(weights, Vec16::load_partial(x + t * a.x_stride + k, n), acc[r][t]);
        }
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) {
      const float sum = acc[r][t].reduce_add();
      a.y[(token + t) * a.y_stride + row + r] = a.bias == nullptr ? sum : sum + a.bias[row + r];
    }
  }
}

// All rows for kTokens tokens from `token` on.
template <typename Row, int kRows, int kTokens>
void dot_all_rows(const DotRowsArgs& a, const std::byte* w, size_t row_bytes, int token) {
  int row = 0;
  for (; row + kRows <= a.n_rows; row += kRows) {
    dot_tile<Row, kRows, kTokens>(a, w + static_cast<size_t>(row) * row_bytes, row_bytes, row, token);
  }
  for (; row < a.n_rows; ++row)
    dot_tile<Row, 1, kTokens>(a, w + static_cast<size_t>(row) * row_bytes, row_bytes, row, token);
}

template <typename Row>
void unpack_rows(const DotRowsArgs& a) {
  constexpr int kStep = 16 * Row::kVectors;
  for (int r = 0; r < a.n_rows; ++r) {
    const std::byte* row = a.weights + static_cast<size_t>(r) * a.row_bytes;
    float* out = a.scratch + r * a.n_cols;
    int64_t k = 0;
    for (; k + kStep <= a.n_cols; k += kStep) {
      Vec16 v[Row::kVectors];
      Row::load(row, k, v);
      for (int i = 0; i < Row::kVectors; ++i) v[i].store(out + k + 16 * i);
    }
    if constexpr (Row::kHasTail) {
      if (k < a.n_cols) {
        const int n = static_cast<int>(a.n_cols - k);
        Row::load_tail(row, k, n).store_partial(out + k, n);
      }
    }
  }
}

// Few tokens: weights are converted in registers. Many: once into scratch, then reused by every token tile.
template <typename Row>
void dot_rows(const DotRowsArgs& a) {
  if (a.n_tokens == 1) {
    dot_all_rows<Row, Vec16::kGemvRows, 1>(a, a.weights, a.row_bytes, 0);
    return;
  }
  const std::byte* w = a.weights;
  size_t row_bytes = a.row_bytes;
  if constexpr (!__is_same(Row, RowF32)) {
    unpack_rows<Row>(a);
    w = reinterpret_cast<const std::byte*>(a.scratch);
    row_bytes = static_cast<size_t>(a.n_cols) * sizeof(float);
  }
  int token = 0;
  for (; token + Vec16::kGemmTokens <= a.n_tokens; token += Vec16::kGemmTokens) {
    dot_all_rows<RowF32, Vec16::kGemmRows, Vec16::kGemmTokens>(a, w, row_bytes, token);
  }
  for (; token < a.n_tokens; ++token) dot_all_rows<RowF32, Vec16::kGemmRows, 1>(a, w, row_bytes, token);
}

void dot_rows_f32(const DotRowsArgs& a) noexcept { dot_rows<RowF32>(a); }
void dot_rows_f16(const DotRowsArgs& a) noexcept { dot_rows<RowF16>(a); }
void dot_rows_bf16(const DotRowsArgs& a) noexcept { dot_rows<RowBf16>(a); }
void dot_rows_q8_0(const DotRowsArgs& a) noexcept { dot_rows<RowQ8_0>(a); }
void dot_rows_q4_0(const DotRowsArgs& a) noexcept { dot_rows<RowQ4_0>(a); }
void dot_rows_q4_1(const DotRowsArgs& a) noexcept { dot_rows<RowQ4_1>(a); }

}  // namespace
