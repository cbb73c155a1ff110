/// Rounding of a whole matrix under a Kronecker-factored cost of its errors: rows make up for each other's errors as
/// columns do in GPTQ.
#pragma once

#include "kernels/kernels.h"
#include "quant/gptq.h"
#include "quant/hessian.h"

namespace mobilellm {

class ThreadPool;

/// The cost is tr(H_o E H_i E^T), E = w - decoded [rows, cols]; H_o [rows, rows] is `outputs` and H_i `inputs`. With
/// H_o = U_o^T U_o, rows in rising importance, it is a sum of squares over rows and columns, and from the last row to
/// the first each can make up for the errors of those done (Tseng et al., Model-Preserving Adaptive Rounding, 2025).
/// Chooses all codes of `rows` (the whole matrix) on its grids, then improves grids and codes in `n_sweeps` sweeps,
/// none of which raises the cost. With the identity for `outputs` the result is choose_codes() and improve_groups(),
/// bit for bit. Writes the errors [rows, cols]. The same for any number of threads.
void round_kronecker(const Hessian& outputs, const Hessian& inputs, const float* weights, int n_sweeps,
                     AffineRows& rows, std::vector<float>& errors, const KernelTable& kernels, ThreadPool& pool);

/// tr(H_o E H_i E^T) of errors [rows, cols], rows = outputs.cols().
double kronecker_error(const Hessian& outputs, const Hessian& inputs, const float* errors, const KernelTable& kernels,
                       ThreadPool& pool);

}  // namespace mobilellm
