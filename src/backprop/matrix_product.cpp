// Blocked products: operands are packed once, then tiles of the result are shared among the threads.
#include "backprop/matrix_product.h"

#include <algorithm>

#include "base/cpu_features.h"
#include "base/error.h"
#include "base/thread_pool.h"

namespace mobilellm {
namespace {

// Summed over at a time, so that a panel of both operands stays in the nearest caches.
constexpr int64_t kDepthBlock = 256;
// Floats of a packed operand at most (16 MB each).
constexpr int64_t kPackedFloats = int64_t{4} << 20;
// Tiles of one task.
constexpr int64_t kTaskRowPanels = 16;
constexpr int64_t kTaskColPanels = 4;

int64_t n_panels(int64_t size, int64_t width) { return (size + width - 1) / width; }

// out[k * width + i] = element (first + i, k) of a matrix whose rows form the panel.
void pack_panel(MatrixRef source, int64_t first, int64_t size, int64_t depth, int64_t width, float* out) {
  const int64_t n = std::min(width, size - first);
  if (n < width) std::fill_n(out, width * depth, 0.0F);
  if (source.row_stride == 1) {
    for (int64_t k = 0; k < depth; ++k) std::copy_n(source.at(first, k), n, out + k * width);
    return;
  }
  // Four rows at a time: whole cache lines are read, and neighbours written together.
  int64_t i = 0;
  for (; i + 4 <= n; i += 4) {
    const float* row = source.at(first + i, 0);
    for (int64_t k = 0; k < depth; ++k) {
      float* target = out + k * width + i;
      const float* from = row + k * source.col_stride;
      target[0] = from[0];
      target[1] = from[source.row_stride];
      target[2] = from[2 * source.row_stride];
      target[3] = from[3 * source.row_stride];
    }
  }
  for (; i < n; ++i) {
    for (int64_t k = 0; k < depth; ++k) out[k * width + i] = *source.at(first + i, k);
  }
}

void grow(std::vector<float>& buffer, int64_t size) {
  if (buffer.size() < static_cast<size_t>(size)) buffer.resize(static_cast<size_t>(size));
}

// Panels [left_begin, left_end) times panels [right_begin, right_end).
struct TileRange {
  int64_t left_begin, left_end, right_begin, right_end;
};

struct Operands {
  const float* left;
  const float* right;
  int64_t left_depth, right_depth;  // as packed
  int64_t depth;                    // to sum over
  int64_t n_rows, n_cols;           // of c
};

void multiply_tiles(const KernelTable& kernels, const Operands& operands, const TileRange& range, float* c,
                    int64_t c_stride, bool accumulates) {
  for (int64_t k = 0; k < operands.depth || k == 0; k += kDepthBlock) {
    const int64_t depth = std::min(kDepthBlock, operands.depth - k);
    for (int64_t right = range.right_begin; right < range.right_end; ++right) {
      for (int64_t left = range.left_begin; left < range.left_end; ++left) {
        const int64_t row = left * kTileRows;
        const int64_t col = right * kTileCols;
        kernels.product_tile(
            {operands.left + (left * operands.left_depth + k) * kTileRows,
             operands.right + (right * operands.right_depth + k) * kTileCols, depth, c + row * c_stride + col, c_stride,
             static_cast<int>(std::min<int64_t>(kTileRows, operands.n_rows - row)),
             static_cast<int>(std::min<int64_t>(kTileCols, operands.n_cols - col)), accumulates || k > 0});
      }
    }
  }
}

}  // namespace

void PackedOperand::pack_left(MatrixRef a, int64_t rows, int64_t depth_of_a) {
  size = rows;
  depth = depth_of_a;
  grow(data, n_panels(rows, kTileRows) * kTileRows * depth);
  for (int64_t panel = 0; panel < n_panels(rows, kTileRows); ++panel) {
    pack_panel(a, panel * kTileRows, rows, depth, kTileRows, data.data() + panel * kTileRows * depth);
  }
}

void PackedOperand::pack_right(MatrixRef b, int64_t depth_of_b, int64_t cols) {
  size = cols;
  depth = depth_of_b;
  grow(data, n_panels(cols, kTileCols) * kTileCols * depth);
  for (int64_t panel = 0; panel < n_panels(cols, kTileCols); ++panel) {
    pack_panel(b.transposed(), panel * kTileCols, cols, depth, kTileCols, data.data() + panel * kTileCols * depth);
  }
}

void multiply_packed(const KernelTable& kernels, const PackedOperand& left, const PackedOperand& right, int64_t depth,
                     int64_t n_cols, float* c, int64_t c_stride, bool accumulates) {
  multiply_tiles(kernels, {left.data.data(), right.data.data(), left.depth, right.depth, depth, left.size, n_cols},
                 {0, n_panels(left.size, kTileRows), 0, n_panels(n_cols, kTileCols)}, c, c_stride, accumulates);
}

MatrixProduct::MatrixProduct(ThreadPool& pool) : kernels_(kernel_table(select_isa())), pool_(pool) {}

void MatrixProduct::run(MatrixRef a, MatrixRef b, int64_t m, int64_t n, int64_t k, float* c, int64_t c_stride,
                        bool accumulates) {
  MOBILELLM_CHECK(m > 0 && n > 0 && k > 0);
  const int64_t block_rows = std::max<int64_t>(1, kPackedFloats / (k * kTileRows)) * kTileRows;
  const int64_t block_cols = std::max<int64_t>(1, kPackedFloats / (k * kTileCols)) * kTileCols;
  for (int64_t col = 0; col < n; col += block_cols) {
    const int64_t n_cols = std::min(block_cols, n - col);
    const int64_t right_panels = n_panels(n_cols, kTileCols);
    grow(right_, right_panels * kTileCols * k);
    const MatrixRef columns = MatrixRef{b.at(0, col), b.row_stride, b.col_stride}.transposed();
    pool_.run(right_panels, [&](int64_t panel, int /*worker*/) {
      pack_panel(columns, panel * kTileCols, n_cols, k, kTileCols, right_.data() + panel * kTileCols * k);
    });
    for (int64_t row = 0; row < m; row += block_rows) {
      const int64_t n_rows = std::min(block_rows, m - row);
      const int64_t left_panels = n_panels(n_rows, kTileRows);
      grow(left_, left_panels * kTileRows * k);
      const MatrixRef rows = {a.at(row, 0), a.row_stride, a.col_stride};
      pool_.run(n_panels(left_panels, kTaskRowPanels), [&](int64_t task, int /*worker*/) {
        const int64_t end = std::min(left_panels, (task + 1) * kTaskRowPanels);
        for (int64_t panel = task * kTaskRowPanels; panel < end; ++panel) {
          pack_panel(rows, panel * kTileRows, n_rows, k, kTileRows, left_.data() + panel * kTileRows * k);
        }
      });
      const int64_t row_tasks = n_panels(left_panels, kTaskRowPanels);
      const int64_t col_tasks = n_panels(right_panels, kTaskColPanels);
      pool_.run(row_tasks * col_tasks, [&](int64_t task, int /*worker*/) {
        const int64_t left = task / col_tasks * kTaskRowPanels;
        const int64_t right = task % col_tasks * kTaskColPanels;
        multiply_tiles(
            kernels_, {left_.data(), right_.data(), k, k, k, n_rows, n_cols},
            {left, std::min(left_panels, left + kTaskRowPanels), right, std::min(right_panels, right + kTaskColPanels)},
            c + row * c_stride + col, c_stride, accumulates);
      });
    }
  }
}

}  // namespace mobilellm
