/// Products of f32 matrices in any orientation, for forward and backward passes.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/kernels.h"

namespace mobilellm {

class ThreadPool;

/// Element (i, j) is data[i * row_stride + j * col_stride], so a transposed matrix is the same data with the strides
/// exchanged.
struct MatrixRef {
  const float* data;
  int64_t row_stride;
  int64_t col_stride;

  MatrixRef transposed() const { return {data, col_stride, row_stride}; }
  const float* at(int64_t i, int64_t j) const { return data + i * row_stride + j * col_stride; }
};

/// [rows, cols] with rows next to each other.
inline MatrixRef row_major(const float* data, int64_t cols) { return {data, cols, 1}; }

/// The left operand in panels of kTileRows rows, the right one in panels of kTileCols columns; missing ones are zeros.
struct PackedOperand {
  std::vector<float> data;
  int64_t size = 0;   ///< Rows of a left operand, columns of a right one.
  int64_t depth = 0;  ///< The dimension that is summed over.

  void pack_left(MatrixRef a, int64_t rows, int64_t depth_of_a);
  void pack_right(MatrixRef b, int64_t depth_of_b, int64_t cols);
};

/// c[i * c_stride + j] (+)= sum_k a[i][k] b[k][j] for k in [0, depth), j in [0, n_cols), on one thread. `left` and
/// `right` must have at least this depth, `right` this many columns; all rows of `left` are computed.
void multiply_packed(const KernelTable& kernels, const PackedOperand& left, const PackedOperand& right, int64_t depth,
                     int64_t n_cols, float* c, int64_t c_stride, bool accumulates);

/// Products on all threads, with buffers that are kept. Every element is one chain of fused multiply-adds in rising k:
/// results do not depend on threads, sizes of tiles or the instruction set.
class MatrixProduct {
 public:
  explicit MatrixProduct(ThreadPool& pool);

  /// c[i * c_stride + j] (+)= sum_k a[i][k] b[k][j]; a is [m, k], b [k, n].
  void run(MatrixRef a, MatrixRef b, int64_t m, int64_t n, int64_t k, float* c, int64_t c_stride, bool accumulates);

 private:
  const KernelTable& kernels_;
  ThreadPool& pool_;
  std::vector<float> left_, right_;
};

}  // namespace mobilellm
