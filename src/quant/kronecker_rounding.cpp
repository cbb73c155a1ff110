// Kronecker-factored rounding, a block of columns at a time.
//
// With E in the orders of both factors, the cost is |U_o E U_i^T|^2. Let F[a][j] = E[a][j] + sum over b > j of
// U_i[j][b] / U_i[j][j] E[a][b], what is left of row a at column j. The term of row i and column j vanishes when
// F[i][j] is -(sum over a > i of U_o[i][a] / U_o[i][i] F[a][j]). So row i needs of the others only their F in its own
// column: all rows can walk through a block of columns before any goes on to the next, and all but the block itself is
// products of matrices.
#include "quant/kronecker_rounding.h"

#include <algorithm>

#include "base/error.h"
#include "base/thread_pool.h"
#include "quant/group_walk.h"
#include "quant/linear_algebra.h"

namespace mobilellm {
namespace {

// Rows that make up for each other one by one; what later ones add comes from one product.
constexpr int64_t kRowBlock = 64;
// Rows of a task of a product.
constexpr int64_t kTaskRows = 16;

template <typename Task>
void for_rows(ThreadPool& pool, int64_t n_rows, int64_t task_rows, Task task) {
  pool.run((n_rows + task_rows - 1) / task_rows, [&](int64_t index, int /*worker*/) {
    const int64_t begin = index * task_rows;
    task(begin, std::min(task_rows, n_rows - begin));
  });
}

class Rounding {
 public:
  Rounding(const Hessian& outputs, const Hessian& inputs, const float* weights, AffineRows& rows,
           const KernelTable& kernels, ThreadPool& pool)
      : outputs_(outputs),
        inputs_(inputs),
        weights_(weights),
        rows_(rows),
        kernels_(kernels),
        pool_(pool),
        n_rows_(rows.n_rows),
        cols_(rows.cols) {
    MOBILELLM_CHECK(rows.group_size <= kMaxGroup);
  }

  void choose(std::vector<float>& errors) {
    walked_.resize(static_cast<size_t>(n_rows_ * cols_));
    pending_.resize(static_cast<size_t>(n_rows_ * kWalkBlock));
    left_.resize(static_cast<size_t>(n_rows_ * kWalkBlock));
    for (int64_t end = cols_; end > 0;) {
      const int64_t begin = (end - 1) / kWalkBlock * kWalkBlock;
      walk_columns(begin, end);
      end = begin;
    }
    errors.resize(walked_.size());
    const std::span<const int32_t> row_order = outputs_.order();
    const std::span<const int32_t> order = inputs_.order();
    for_rows(pool_, n_rows_, kTaskRows, [&](int64_t first, int64_t n) {
      for (int64_t i = first; i < first + n; ++i) {
        float* out = errors.data() + row_order[static_cast<size_t>(i)] * cols_;
        const float* in = walked_.data() + i * cols_;
        for (int64_t k = 0; k < cols_; ++k) out[order[static_cast<size_t>(k)]] = in[k];
      }
    });
  }

  void improve(std::vector<float>& errors) {
    if (mixing_.empty()) make_mixing();
    const int64_t group_size = rows_.group_size;
    const auto n_values = static_cast<size_t>(n_rows_ * group_size);
    gradients_.resize(n_values);
    transposed_.resize(n_values);
    responses_.resize(n_values);
    mixed_.resize(static_cast<size_t>(kRowBlock * group_size));
    ones_.resize(static_cast<size_t>(group_size));
    for (int64_t group = 0; group < rows_.n_groups(); ++group) improve_group(group, errors);
  }

 private:
  // The columns [begin, end) of the order, for all rows.
  void walk_columns(int64_t begin, int64_t end) {
    const int64_t width = end - begin;
    const float* factor = inputs_.factor();
    std::fill(pending_.begin(), pending_.end(), 0.0F);
    if (end < cols_) {
      for_rows(pool_, n_rows_, kTaskRows, [&](int64_t first, int64_t n) {
        multiply_transposed(kernels_, walked_.data() + first * cols_ + end, cols_, n, factor + begin * cols_ + end,
                            cols_, width, cols_ - end, pending_.data() + first * kWalkBlock, kWalkBlock);
      });
    }
    for (int64_t i = 0; i < width; ++i) {
      inverse_[i] = 1.0F / factor[(begin + i) * cols_ + begin + i];
      for (int64_t j = 0; j < i; ++j) block_[i * width + j] = factor[(begin + j) * cols_ + begin + i];
    }
    for (int64_t row_end = n_rows_; row_end > 0;) {
      const int64_t row_begin = (row_end - 1) / kRowBlock * kRowBlock;
      walk_rows(row_begin, row_end, begin, width);
      row_end = row_begin;
    }
  }

  void walk_rows(int64_t row_begin, int64_t row_end, int64_t begin, int64_t width) {
    const float* factor = outputs_.factor();
    float shifts[kRowBlock * kWalkBlock] = {};
    float left[kRowBlock * kWalkBlock];
    if (row_end < n_rows_) {
      for_rows(pool_, row_end - row_begin, kTaskRows, [&](int64_t first, int64_t n) {
        multiply_transposed(kernels_, factor + (row_begin + first) * n_rows_ + row_end, n_rows_, n,
                            left_.data() + row_end, n_rows_, width, n_rows_ - row_end, shifts + first * kWalkBlock,
                            kWalkBlock);
      });
    }
    const std::span<const int32_t> row_order = outputs_.order();
    for (int64_t i = row_end; i-- > row_begin;) {
      float* shift = shifts + (i - row_begin) * kWalkBlock;
      for (int64_t a = i + 1; a < row_end; ++a) {
        const float weight = factor[i * n_rows_ + a];
        const float* other = left + (a - row_begin) * kWalkBlock;
        for (int64_t j = 0; j < width; ++j) shift[j] += weight * other[j];
      }
      const float inverse = 1.0F / factor[i * n_rows_ + i];
      for (int64_t j = 0; j < width; ++j) shift[j] *= inverse;
      const int64_t row = row_order[static_cast<size_t>(i)];
      float* pending = pending_.data() + i * kWalkBlock;
      float* walked = walked_.data() + i * cols_ + begin;
      walk_block({weights_ + row * cols_, inputs_.order().data() + begin, inverse_, block_, width,
                  rows_.scales.data() + row * rows_.n_groups(), rows_.biases.data() + row * rows_.n_groups(),
                  rows_.group_size, static_cast<float>(rows_.top), shift},
                 pending, walked, rows_.codes.data() + row * cols_);
      for (int64_t j = 0; j < width; ++j) {
        const float rest = walked[j] + pending[j] * inverse_[j];
        left[(i - row_begin) * kWalkBlock + j] = rest;
        left_[static_cast<size_t>(j * n_rows_ + i)] = rest;
      }
    }
  }

  // Rows of H_o by their diagonal, which itself is left out: what other rows' gradients add to one's own.
  void make_mixing() {
    const auto n = static_cast<size_t>(n_rows_);
    mixing_.assign(outputs_.matrix(), outputs_.matrix() + n * n);
    for (size_t i = 0; i < n; ++i) {
      const float inverse = 1.0F / mixing_[i * n + i];
      for (size_t a = 0; a < n; ++a) mixing_[i * n + a] *= inverse;
      mixing_[i * n + i] = 0.0F;
    }
  }

  void improve_group(int64_t group, std::vector<float>& errors) {
    const int64_t group_size = rows_.group_size;
    const int64_t begin = group * group_size;
    const float* block = inputs_.matrix() + begin * cols_;
    for_rows(pool_, n_rows_, kTaskRows, [&](int64_t first, int64_t n) {
      multiply_transposed(kernels_, errors.data() + first * cols_, cols_, n, block, cols_, group_size, cols_,
                          gradients_.data() + first * group_size, group_size);
      std::vector<float> codes(static_cast<size_t>(n * group_size));
      for (int64_t r = 0; r < n; ++r) {
        std::copy_n(rows_.codes.data() + (first + r) * cols_ + begin, group_size, codes.data() + r * group_size);
        for (int64_t k = 0; k < group_size; ++k) {
          transposed_[static_cast<size_t>(k * n_rows_ + first + r)] =
              gradients_[static_cast<size_t>((first + r) * group_size + k)];
        }
      }
      multiply_transposed(kernels_, codes.data(), group_size, n, block + begin, cols_, group_size, group_size,
                          responses_.data() + first * group_size, group_size);
    });
    for (int64_t k = 0; k < group_size; ++k) {
      float sum = 0.0F;
      for (int64_t j = 0; j < group_size; ++j) sum += block[k * cols_ + begin + j];
      ones_[static_cast<size_t>(k)] = sum;
    }
    for (int64_t first = 0; first < n_rows_; first += kRowBlock) {
      improve_rows(group, first, std::min(n_rows_, first + kRowBlock), errors);
    }
  }

  void improve_rows(int64_t group, int64_t row_begin, int64_t row_end, std::vector<float>& errors) {
    const int64_t group_size = rows_.group_size;
    const int64_t begin = group * group_size;
    const float* block = inputs_.matrix() + begin * cols_;
    for_rows(pool_, row_end - row_begin, kTaskRows, [&](int64_t first, int64_t n) {
      multiply_transposed(kernels_, mixing_.data() + (row_begin + first) * n_rows_, n_rows_, n, transposed_.data(),
                          n_rows_, group_size, n_rows_, mixed_.data() + first * group_size, group_size);
    });
    float gradient[kMaxGroup];
    float change[kMaxGroup];
    for (int64_t r = row_begin; r < row_end; ++r) {
      const float* own = gradients_.data() + r * group_size;
      const float* others = mixed_.data() + (r - row_begin) * group_size;
      for (int64_t k = 0; k < group_size; ++k) gradient[k] = change[k] = own[k] + others[k];
      const GroupFit fit = {weights_ + r * cols_ + begin,  block + begin, cols_, rows_.group_size,
                            static_cast<float>(rows_.top), rows_.stored};
      float& scale = rows_.scales[static_cast<size_t>(r * rows_.n_groups() + group)];
      float& bias = rows_.biases[static_cast<size_t>(r * rows_.n_groups() + group)];
      uint8_t* codes = rows_.codes.data() + r * cols_ + begin;
      float* row_errors = errors.data() + r * cols_ + begin;
      fit_group(fit, codes, responses_.data() + r * group_size, ones_.data(), gradient, row_errors, &scale, &bias);
      move_codes(fit, scale, bias, codes, gradient, row_errors);
      for (int64_t k = 0; k < group_size; ++k) {
        change[k] = gradient[k] - change[k];
        transposed_[static_cast<size_t>(k * n_rows_ + r)] += change[k];
      }
      for (int64_t other = r + 1; other < row_end; ++other) {
        const float weight = mixing_[static_cast<size_t>(other * n_rows_ + r)];
        float* mixed = mixed_.data() + (other - row_begin) * group_size;
        for (int64_t k = 0; k < group_size; ++k) mixed[k] += weight * change[k];
      }
    }
  }

  static constexpr int64_t kMaxGroup = 128;

  const Hessian& outputs_;
  const Hessian& inputs_;
  const float* weights_;
  AffineRows& rows_;
  const KernelTable& kernels_;
  ThreadPool& pool_;
  int64_t n_rows_, cols_;
  std::vector<float> walked_;   // E [rows, cols] in the orders of both factors.
  std::vector<float> pending_;  // [rows, kWalkBlock]
  std::vector<float> left_;     // F of the block of columns, [kWalkBlock, rows].
  float inverse_[kWalkBlock];
  float block_[kWalkBlock * kWalkBlock];
  // Of improve(), rows and columns in their own order.
  std::vector<float> mixing_;                  // [rows, rows]
  std::vector<float> gradients_, transposed_;  // E H_i of a group before and [group, rows] after changes.
  std::vector<float> responses_, mixed_, ones_;
};

}  // namespace

void round_kronecker(const Hessian& outputs, const Hessian& inputs, const float* weights, int n_sweeps,
                     AffineRows& rows, std::vector<float>& errors, const KernelTable& kernels, ThreadPool& pool) {
  Rounding rounding(outputs, inputs, weights, rows, kernels, pool);
  rounding.choose(errors);
  for (int sweep = 0; sweep < n_sweeps; ++sweep) rounding.improve(errors);
}

double kronecker_error(const Hessian& outputs, const Hessian& inputs, const float* errors, const KernelTable& kernels,
                       ThreadPool& pool) {
  const int64_t n_rows = outputs.cols();
  const int64_t cols = inputs.cols();
  std::vector<float> products(static_cast<size_t>(n_rows * kWalkBlock));
  std::vector<float> transposed(products.size());
  std::vector<double> sums(static_cast<size_t>(n_rows));
  for (int64_t begin = 0; begin < cols; begin += kWalkBlock) {
    const int64_t width = std::min(kWalkBlock, cols - begin);
    for_rows(pool, n_rows, kTaskRows, [&](int64_t first, int64_t n) {
      multiply_transposed(kernels, errors + first * cols, cols, n, inputs.matrix() + begin * cols, cols, width, cols,
                          products.data() + first * width, width);
      for (int64_t r = first; r < first + n; ++r) {
        for (int64_t k = 0; k < width; ++k) {
          transposed[static_cast<size_t>(k * n_rows + r)] = products[static_cast<size_t>(r * width + k)];
        }
      }
    });
    for_rows(pool, n_rows, kTaskRows, [&](int64_t first, int64_t n) {
      std::vector<float> mixed(static_cast<size_t>(n * width));
      multiply_transposed(kernels, outputs.matrix() + first * n_rows, n_rows, n, transposed.data(), n_rows, width,
                          n_rows, mixed.data(), width);
      for (int64_t r = 0; r < n; ++r) {
        for (int64_t k = 0; k < width; ++k) {
          sums[static_cast<size_t>(first + r)] += static_cast<double>(mixed[static_cast<size_t>(r * width + k)]) *
                                                  static_cast<double>(errors[(first + r) * cols + begin + k]);
        }
      }
    });
  }
  double total = 0.0;
  for (const double sum : sums) total += sum;
  return total;
}

}  // namespace mobilellm
