/// Steps that the walks of GPTQ are made of: a block of columns of one row, a group of one row.
#pragma once

#include <cstdint>

#include "kernels/kernels.h"
#include "tensor/dtype.h"

namespace mobilellm {

/// Columns whose mutual corrections are made one by one; those of all later columns come from one product.
inline constexpr int64_t kWalkBlock = 64;

/// One block of columns of one row.
struct BlockArgs {
  const float* weights;  ///< [cols], original order
  const int32_t* order;  ///< Of the block: original columns.
  const float* inverse;  ///< 1 / U[i][i] of the block.
  const float* columns;  ///< [width, width]: row i holds U[j][i] for j < i.
  int64_t width;
  const float* scales;  ///< Of the row.
  const float* biases;
  int group_size;
  float top;
  const float* shifts = nullptr;  ///< [width], added to the targets; null: none.
};

/// Chooses codes from the last column to the first. pending[i] holds what later columns add to (U e)[i] and is updated;
/// writes errors [width] and the codes at their original columns.
void walk_block(const BlockArgs& args, float* pending, float* errors, uint8_t* codes);

/// One group of one row.
struct GroupFit {
  const float* weights;  ///< [group_size]
  const float* hessian;  ///< Row 0 of the group's block, rows `stride` apart.
  int64_t stride;
  int group_size;
  float top;
  DType stored;
};

/// Fits scale and bias to the codes. `gradient` is (H e) of the group, `response` H q of the group's own block, `ones`
/// H 1 of it. Never raises the error; updates gradient and errors.
void fit_group(const GroupFit& fit, const uint8_t* codes, const float* response, const float* ones, float* gradient,
               float* errors, float* scale, float* bias);
/// Moves single codes to the best value given all others; updates gradient and errors.
void move_codes(const GroupFit& fit, float scale, float bias, uint8_t* codes, float* gradient, float* errors);

}  // namespace mobilellm
