// Products of packed tiles, softmax and gradients of activations, for training; included by each ISA file after
// elementwise.h.
#include "kernels/kernels.h"

namespace {

using mobilellm::GatedBackwardArgs;
using mobilellm::kTileCols;
using mobilellm::kTileRows;
using mobilellm::ProductTileArgs;
using mobilellm::SoftmaxArgs;
using mobilellm::SoftmaxDifferenceArgs;

// Rows [row, row + kRows) and vectors [vector, vector + kVectors) of a whole tile.
template <int kRows, int kVectors>
inline void product_part(const float* a, const float* b, int64_t k, float* c, int64_t c_stride, bool accumulates) {
  Vec16 acc[kRows][kVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) acc[r][v] = accumulates ? Vec16::load(c + r * c_stride + 16 * v) : Vec16::zero();
  }
  for (int64_t i = 0; i < k; ++i) {
    Vec16 columns[kVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) columns[v] = Vec16::load(b + i * kTileCols + 16 * v);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const Vec16 x = Vec16::set1(a[i * kTileRows + r]);
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) acc[r][v] = Vec16::fma(x, columns[v], acc[r][v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) acc[r][v].store(c + r * c_stride + 16 * v);
  }
}

inline void whole_tile(const float* a, const float* b, int64_t k, float* c, int64_t c_stride, bool accumulates) {
  constexpr int kRows = Vec16::kProductRows;
  constexpr int kVectors = Vec16::kProductVectors;
  static_assert(kTileRows % kRows == 0 && kTileCols % (16 * kVectors) == 0);
  for (int row = 0; row < kTileRows; row += kRows) {
    for (int col = 0; col < kTileCols; col += 16 * kVectors) {
      product_part<kRows, kVectors>(a + row, b + col, k, c + row * c_stride + col, c_stride, accumulates);
    }
  }
}

void product_tile(const ProductTileArgs& a) noexcept {
  if (a.n_rows == kTileRows && a.n_cols == kTileCols) {
    whole_tile(a.a, a.b, a.k, a.c, a.c_stride, a.accumulates);
    return;
  }
  float tile[kTileRows * kTileCols] = {};
  const auto row_bytes = static_cast<size_t>(a.n_cols) * sizeof(float);
  if (a.accumulates) {
    for (int r = 0; r < a.n_rows; ++r) __builtin_memcpy(tile + r * kTileCols, a.c + r * a.c_stride, row_bytes);
  }
  whole_tile(a.a, a.b, a.k, tile, kTileCols, true);
  for (int r = 0; r < a.n_rows; ++r) __builtin_memcpy(a.c + r * a.c_stride, tile + r * kTileCols, row_bytes);
}

inline float row_max(const float* x, int64_t n) {
  Vec16 high = Vec16::set1(x[0]);
  for_each_vector(n, [&](int64_t i, int count) {
    const Vec16 v = load_n(x + i, count);
    high = Vec16::max(high, count == 16 ? v : Vec16::select_range(0, count, v, high));
  });
  return high.reduce_max();
}

void softmax(const SoftmaxArgs& a) noexcept {
  const float max = row_max(a.x, a.n);
  const Vec16 shift = Vec16::set1(max);
  Vec16 sums = Vec16::zero();
  for_each_vector(a.n, [&](int64_t i, int n) {
    const Vec16 e = exp16(load_n(a.x + i, n) - shift);
    sums = sums + (n == 16 ? e : Vec16::select_range(0, n, e, Vec16::zero()));
    store_n(e, a.y + i, n);
  });
  const float sum = sums.reduce_add();
  const Vec16 scale = Vec16::set1(a.factor / sum);
  for_each_vector(a.n, [&](int64_t i, int n) { store_n(load_n(a.y + i, n) * scale, a.y + i, n); });
  if (a.max_and_sum != nullptr) {
    a.max_and_sum[0] = max;
    a.max_and_sum[1] = sum;
  }
}

void softmax_difference(const SoftmaxDifferenceArgs& a) noexcept {
  const Vec16 inverse = Vec16::set1(a.inverse_temperature);
  const float teacher_max = row_max(a.teacher, a.n) * a.inverse_temperature;
  const float student_max = row_max(a.student, a.n) * a.inverse_temperature;
  const Vec16 teacher_shift = Vec16::set1(-teacher_max);
  const Vec16 student_shift = Vec16::set1(-student_max);
  Vec16 teacher_sums = Vec16::zero();
  Vec16 student_sums = Vec16::zero();
  Vec16 products = Vec16::zero();
  for_each_vector(a.n, [&](int64_t i, int n) {
    const Vec16 t = load_n(a.teacher + i, n);
    const Vec16 s = load_n(a.student + i, n);
    Vec16 et = exp16(Vec16::fma(t, inverse, teacher_shift));
    Vec16 es = exp16(Vec16::fma(s, inverse, student_shift));
    if (n < 16) {
      et = Vec16::select_range(0, n, et, Vec16::zero());
      es = Vec16::select_range(0, n, es, Vec16::zero());
    }
    teacher_sums = teacher_sums + et;
    student_sums = student_sums + es;
    products = Vec16::fma(et, (t - s) * inverse, products);
    store_n(es, a.student + i, n);
  });
  const float teacher_sum = teacher_sums.reduce_add();
  const float student_sum = student_sums.reduce_add();
  const Vec16 teacher_scale = Vec16::set1(-a.factor / teacher_sum);
  const Vec16 student_scale = Vec16::set1(a.factor / student_sum);
  for_each_vector(a.n, [&](int64_t i, int n) {
    const Vec16 et = exp16(Vec16::fma(load_n(a.teacher + i, n), inverse, teacher_shift));
    store_n(Vec16::fma(et, teacher_scale, load_n(a.student + i, n) * student_scale), a.student + i, n);
  });
  a.sums[0] = teacher_max;
  a.sums[1] = teacher_sum;
  a.sums[2] = student_max;
  a.sums[3] = student_sum;
  a.sums[4] = products.reduce_add();
}

// `activation(x, value, slope)` gives act(x) and act'(x).
template <typename Activation>
inline void gated_backward(const GatedBackwardArgs& a, Activation activation) {
  for_each_vector(a.n, [&](int64_t i, int n) {
    Vec16 value;
    Vec16 slope;
    activation(load_n(a.gate + i, n), value, slope);
    const Vec16 d = load_n(a.d_out + i, n);
    if (a.up == nullptr) {
      store_n(d * slope, a.d_gate + i, n);
      return;
    }
    const Vec16 up = load_n(a.up + i, n);
    store_n(d * up * slope, a.d_gate + i, n);
    store_n(d * value, a.d_up + i, n);
  });
}

void silu_mul_backward(const GatedBackwardArgs& a) noexcept {
  const Vec16 one = Vec16::set1(1.0F);
  gated_backward(a, [&](Vec16 x, Vec16& value, Vec16& slope) {
    const Vec16 sigmoid = one / (one + exp16(Vec16::zero() - x));
    value = x * sigmoid;
    slope = Vec16::fma(value, one - sigmoid, sigmoid);
  });
}

// x * sigmoid(2u), u = sqrt(2 / pi) (x + 0.044715 x^3)
void gelu_tanh_mul_backward(const GatedBackwardArgs& a) noexcept {
  const Vec16 one = Vec16::set1(1.0F);
  constexpr float kTwice = 2.0F * 0.79788456080286536F;
  gated_backward(a, [&](Vec16 x, Vec16& value, Vec16& slope) {
    const Vec16 square = x * x;
    const Vec16 inner = Vec16::fma(Vec16::set1(0.044715F) * square, x, x);
    const Vec16 sigmoid = one / (one + exp16(inner * Vec16::set1(-kTwice)));
    const Vec16 steepness = Vec16::fma(Vec16::set1(3.0F * 0.044715F * kTwice), square, Vec16::set1(kTwice));
    value = x * sigmoid;
    slope = Vec16::fma(value * (one - sigmoid), steepness, sigmoid);
  });
}

}  // namespace
