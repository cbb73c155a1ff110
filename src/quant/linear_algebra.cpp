// Gram matrices and Cholesky factors over the kernels' dot products.
#include "quant/linear_algebra.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "backprop/matrix_product.h"
#include "base/cpu_features.h"
#include "base/thread_pool.h"
#include "kernels/kernels.h"

namespace mobilellm {
namespace {

// Tokens whose products are summed before they are added to the matrix.
constexpr int64_t kTokenChunk = 512;
// Rows and columns per tile of a product: a tile's operands stay in the second-level cache.
constexpr int64_t kTile = 96;
// Rows and columns of a product of add_gram(); columns are a multiple of kTileCols.
constexpr int64_t kGramRows = 96;
constexpr int64_t kGramCols = 16 * kTileCols;
// Columns of a Cholesky panel.
constexpr int64_t kPanel = 64;

// Factors the diagonal block [n, n] of a panel; false when a pivot is not positive.
bool factor_block(float* a, int64_t stride, int64_t n) {
  for (int64_t j = 0; j < n; ++j) {
    float* row = a + j * stride;
    for (int64_t k = 0; k < j; ++k) {
      const float* other = a + k * stride;
      float sum = row[k];
      for (int64_t i = 0; i < k; ++i) sum -= row[i] * other[i];
      row[k] = sum / other[k];
    }
    float pivot = row[j];
    for (int64_t i = 0; i < j; ++i) pivot -= row[i] * row[i];
    if (!(pivot > 0.0F)) return false;
    row[j] = std::sqrt(pivot);
  }
  return true;
}

// Solves y D^T = row in place, D lower triangular [n, n] given as its transpose [n, n].
void solve_row(const float* transposed, int64_t n, float* row) {
  for (int64_t k = 0; k < n; ++k) {
    const float* column = transposed + k * n;
    const float value = row[k] / column[k];
    row[k] = value;
    for (int64_t j = k + 1; j < n; ++j) row[j] -= value * column[j];
  }
}

}  // namespace

void multiply_transposed(const KernelTable& kernels, const float* a, int64_t a_stride, int64_t n_rows, const float* b,
                         int64_t b_stride, int64_t n, int64_t k, float* out, int64_t out_stride) {
  DotRowsArgs args = {};
  args.weights = reinterpret_cast<const std::byte*>(b);
  args.row_bytes = static_cast<size_t>(b_stride) * sizeof(float);
  args.n_rows = static_cast<int>(n);
  args.n_cols = k;
  args.x = a;
  args.x_stride = a_stride;
  args.n_tokens = static_cast<int>(n_rows);
  args.y = out;
  args.y_stride = out_stride;
  kernels.dot_rows_f32(args);
}

void add_gram(const float* x, int64_t n_tokens, int64_t x_stride, int64_t cols, float* gram, ThreadPool& pool) {
  const KernelTable& kernels = kernel_table(select_isa());
  const int64_t n_strips = (cols + kGramCols - 1) / kGramCols;
  const int64_t n_row_blocks = (cols + kGramRows - 1) / kGramRows;
  std::vector<PackedOperand> strips(static_cast<size_t>(n_strips));
  std::vector<PackedOperand> lefts(static_cast<size_t>(pool.n_threads()));
  std::vector<float> products(static_cast<size_t>(pool.n_threads() * kGramRows * kGramCols));
  for (int64_t first = 0; first < n_tokens; first += kTokenChunk) {
    const int64_t n = std::min(kTokenChunk, n_tokens - first);
    const MatrixRef tokens = {x + first * x_stride, x_stride, 1};
    const auto columns = [&](int64_t col) { return MatrixRef{tokens.at(0, col), x_stride, 1}; };
    pool.run(n_strips, [&](int64_t strip, int /*worker*/) {
      const int64_t col = strip * kGramCols;
      strips[static_cast<size_t>(strip)].pack_right(columns(col), n, std::min(kGramCols, cols - col));
    });
    // The last rows have the most to do, so they come first.
    pool.run(n_row_blocks, [&](int64_t task, int worker) {
      const int64_t row = (n_row_blocks - 1 - task) * kGramRows;
      const int64_t row_end = std::min(row + kGramRows, cols);
      PackedOperand& left = lefts[static_cast<size_t>(worker)];
      left.pack_left(columns(row).transposed(), row_end - row, n);
      float* tile = products.data() + worker * kGramRows * kGramCols;
      for (int64_t col = 0; col < row_end; col += kGramCols) {
        const int64_t n_cols = std::min(kGramCols, row_end - col);
        multiply_packed(kernels, left, strips[static_cast<size_t>(col / kGramCols)], n, n_cols, tile, kGramCols, false);
        for (int64_t i = row; i < row_end; ++i) {
          const int64_t end = std::min(n_cols, i + 1 - col);
          const float* from = tile + (i - row) * kGramCols;
          float* out = gram + triangle_row(i) + col;
          for (int64_t j = 0; j < end; ++j) out[j] += from[j];
        }
      }
    });
  }
}

bool factor_cholesky(float* a, int64_t n, ThreadPool& pool) {
  const KernelTable& kernels = kernel_table(select_isa());
  std::vector<float> products(static_cast<size_t>(pool.n_threads() * kTile * kPanel));
  std::vector<float> transposed(kPanel * kPanel);
  for (int64_t panel = 0; panel < n; panel += kPanel) {
    const int64_t width = std::min(kPanel, n - panel);
    // What the columns to the left contribute.
    const int64_t n_below = n - panel;
    if (panel > 0) {
      pool.run((n_below + kTile - 1) / kTile, [&](int64_t task, int worker) {
        const int64_t row = panel + task * kTile;
        const int64_t n_rows = std::min(kTile, n - row);
        float* tile = products.data() + worker * kTile * kPanel;
        multiply_transposed(kernels, a + row * n, n, n_rows, a + panel * n, n, width, panel, tile, kPanel);
        for (int64_t i = 0; i < n_rows; ++i) {
          float* out = a + (row + i) * n + panel;
          for (int64_t j = 0; j < width; ++j) out[j] -= tile[i * kPanel + j];
        }
      });
    }
    if (!factor_block(a + panel * n + panel, n, width)) return false;
    for (int64_t i = 0; i < width; ++i) {
      for (int64_t j = 0; j <= i; ++j) {
        transposed[static_cast<size_t>(j * width + i)] = a[(panel + i) * n + panel + j];
      }
    }
    const int64_t first = panel + width;
    pool.run((n - first + kTile - 1) / kTile, [&](int64_t task, int /*worker*/) {
      const int64_t begin = first + task * kTile;
      for (int64_t row = begin; row < std::min(begin + kTile, n); ++row) {
        solve_row(transposed.data(), width, a + row * n + panel);
      }
    });
  }
  return true;
}

void transpose_square(float* a, int64_t n, ThreadPool& pool) {
  constexpr int64_t kBlock = 32;
  const int64_t n_blocks = (n + kBlock - 1) / kBlock;
  pool.run(n_blocks, [&](int64_t block, int /*worker*/) {
    for (int64_t other = 0; other <= block; ++other) {
      for (int64_t i = block * kBlock; i < std::min((block + 1) * kBlock, n); ++i) {
        for (int64_t j = other * kBlock; j < std::min({(other + 1) * kBlock, n, i}); ++j) {
          std::swap(a[i * n + j], a[j * n + i]);
        }
      }
    }
  });
}

}  // namespace mobilellm
