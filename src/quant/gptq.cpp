// GPTQ on fixed affine grids.
//
// The error of a row's outputs is e^T H e = |U e|^2, U upper triangular with the columns in rising importance. Walking
// from the last column to the first, (U e)[i] can still be made small by the choice of e[i] alone: the best decoded
// value is w[i] + (sum over k > i of U[i][k] e[k]) / U[i][i]. Errors are e = w - decoded.
#include "quant/gptq.h"

#include <algorithm>
#include <cmath>

#include "quant/group_walk.h"
#include "quant/linear_algebra.h"

namespace mobilellm {
namespace {

template <typename T>
void grow(std::vector<T>& buffer, int64_t size) {
  if (buffer.size() < static_cast<size_t>(size)) buffer.resize(static_cast<size_t>(size));
}

}  // namespace

void choose_codes(const Hessian& hessian, const float* weights, AffineRows& rows, GptqWorkspace& workspace,
                  const KernelTable& kernels) {
  const int64_t n = rows.cols;
  const float* factor = hessian.factor();
  const int32_t* order = hessian.order().data();
  grow(workspace.errors, rows.n_rows * n);
  grow(workspace.permuted, rows.n_rows * n);
  grow(workspace.products, rows.n_rows * kWalkBlock);
  grow(workspace.block, kWalkBlock * kWalkBlock);
  float inverse[kWalkBlock];
  for (int64_t end = n; end > 0;) {
    // Blocks begin at multiples of kWalkBlock, so that the last columns may form a short one.
    const int64_t begin = (end - 1) / kWalkBlock * kWalkBlock;
    const int64_t width = end - begin;
    if (end < n) {
      multiply_transposed(kernels, workspace.permuted.data() + end, n, rows.n_rows, factor + begin * n + end, n, width,
                          n - end, workspace.products.data(), kWalkBlock);
    } else {
      std::fill_n(workspace.products.begin(), rows.n_rows * kWalkBlock, 0.0F);
    }
    for (int64_t i = 0; i < width; ++i) {
      inverse[i] = 1.0F / factor[(begin + i) * n + begin + i];
      for (int64_t j = 0; j < i; ++j) {
        workspace.block[static_cast<size_t>(i * width + j)] = factor[(begin + j) * n + begin + i];
      }
    }
    for (int r = 0; r < rows.n_rows; ++r) {
      walk_block({weights + r * n, order + begin, inverse, workspace.block.data(), width,
                  rows.scales.data() + r * rows.n_groups(), rows.biases.data() + r * rows.n_groups(), rows.group_size,
                  static_cast<float>(rows.top)},
                 workspace.products.data() + r * kWalkBlock, workspace.permuted.data() + r * n + begin,
                 rows.codes.data() + r * n);
    }
    end = begin;
  }
  for (int r = 0; r < rows.n_rows; ++r) {
    for (int64_t i = 0; i < n; ++i) {
      workspace.errors[static_cast<size_t>(r * n + order[i])] = workspace.permuted[static_cast<size_t>(r * n + i)];
    }
  }
}

void improve_groups(const Hessian& hessian, const float* weights, AffineRows& rows, GptqWorkspace& workspace,
                    const KernelTable& kernels) {
  const int64_t n = rows.cols;
  const int group_size = rows.group_size;
  grow(workspace.products, rows.n_rows * group_size);
  grow(workspace.block, rows.n_rows * group_size);
  grow(workspace.codes, rows.n_rows * group_size);
  std::vector<float> ones(static_cast<size_t>(group_size));
  for (int64_t group = 0; group < rows.n_groups(); ++group) {
    const int64_t begin = group * group_size;
    const float* block = hessian.matrix() + begin * n;
    float* gradients = workspace.products.data();
    float* responses = workspace.block.data();
    multiply_transposed(kernels, workspace.errors.data(), n, rows.n_rows, block, n, group_size, n, gradients,
                        group_size);
    for (int r = 0; r < rows.n_rows; ++r) {
      const uint8_t* codes = rows.codes.data() + r * n + begin;
      std::copy_n(codes, group_size, workspace.codes.data() + r * group_size);
    }
    multiply_transposed(kernels, workspace.codes.data(), group_size, rows.n_rows, block + begin, n, group_size,
                        group_size, responses, group_size);
    for (int k = 0; k < group_size; ++k) {
      float sum = 0.0F;
      for (int j = 0; j < group_size; ++j) sum += block[k * n + begin + j];
      ones[static_cast<size_t>(k)] = sum;
    }
    for (int r = 0; r < rows.n_rows; ++r) {
      const GroupFit fit = {weights + r * n + begin,      block + begin, n, group_size,
                            static_cast<float>(rows.top), rows.stored};
      float& scale = rows.scales[static_cast<size_t>(r * rows.n_groups() + group)];
      float& bias = rows.biases[static_cast<size_t>(r * rows.n_groups() + group)];
      uint8_t* codes = rows.codes.data() + r * n + begin;
      float* errors = workspace.errors.data() + r * n + begin;
      fit_group(fit, codes, responses + r * group_size, ones.data(), gradients + r * group_size, errors, &scale, &bias);
      move_codes(fit, scale, bias, codes, gradients + r * group_size, errors);
    }
  }
}

double hessian_error(const Hessian& hessian, const float* errors, int n_rows, std::vector<float>& products,
                     const KernelTable& kernels) {
  const int64_t n = hessian.cols();
  grow(products, n_rows * kWalkBlock);
  double total = 0.0;
  for (int64_t begin = 0; begin < n; begin += kWalkBlock) {
    const int64_t width = std::min(kWalkBlock, n - begin);
    multiply_transposed(kernels, errors, n, n_rows, hessian.matrix() + begin * n, n, width, n, products.data(),
                        kWalkBlock);
    for (int r = 0; r < n_rows; ++r) {
      for (int64_t i = 0; i < width; ++i) {
        total += static_cast<double>(errors[r * n + begin + i]) *
                 static_cast<double>(products[static_cast<size_t>(r * kWalkBlock + i)]);
      }
    }
  }
  return total;
}

}  // namespace mobilellm
