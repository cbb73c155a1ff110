/// GPTQ on fixed affine grids: codes that make up for each other's errors, for a few rows at a time.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/kernels.h"
#include "quant/hessian.h"
#include "tensor/dtype.h"

namespace mobilellm {

/// Rows of a matrix while they are quantized: codes and grids, [n_rows, cols] and [n_rows, cols / group_size].
struct AffineRows {
  int n_rows = 0;
  int64_t cols = 0;
  int group_size = 0;
  int top = 0;                 ///< Largest code.
  DType stored = DType::kF32;  ///< Type of scales and biases in the file; they are exact in it.
  std::vector<uint8_t> codes;
  std::vector<float> scales;
  std::vector<float> biases;

  int64_t n_groups() const { return cols / group_size; }
};

/// Buffers of one worker, grown as needed.
struct GptqWorkspace {
  std::vector<float> errors;    ///< [n_rows, cols], w - decoded; left in the original order of columns.
  std::vector<float> permuted;  ///< [n_rows, cols]
  std::vector<float> products;
  std::vector<float> block;
  std::vector<float> codes;
};

/// Chooses codes for weights [n_rows, cols] on the grids of `rows`, column by column from the most important one, each
/// rounding taking the earlier errors into account (Babai's nearest plane, which GPTQ is). Fills workspace.errors.
void choose_codes(const Hessian& hessian, const float* weights, AffineRows& rows, GptqWorkspace& workspace,
                  const KernelTable& kernels);

/// One sweep over the groups: fits each group's scale and bias to its codes under the errors of all other columns, then
/// moves its codes one by one where that helps. Never raises the error. Needs and updates workspace.errors.
void improve_groups(const Hessian& hessian, const float* weights, AffineRows& rows, GptqWorkspace& workspace,
                    const KernelTable& kernels);

/// e^T H e summed over rows of errors [n_rows, cols].
double hessian_error(const Hessian& hessian, const float* errors, int n_rows, std::vector<float>& products,
                     const KernelTable& kernels);

}  // namespace mobilellm
