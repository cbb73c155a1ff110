/// Bits for each matrix by what they cost: errors of every storage under the calibrated inputs, times what the model's
/// predictions lose by an error in that matrix.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "quant/bit_allocation.h"
#include "quant/layer_quantizer.h"
#include "quant/model_moments.h"
#include "quant/sensitivity.h"
#include "quant/storage_plan.h"

namespace mobilellm {

struct MatrixCandidates {
  TensorRole role;
  int layer;  ///< As in TensorEntry.
  std::vector<MatrixStorage> options;
};

struct MatrixLosses {
  std::vector<StorageCost> costs;  ///< One for each option; the loss is a predicted KL in nats per token.
  double rounding_loss = 0;        ///< The same of plain rounding to probe_storage().
};

/// 4 bits in groups of 64.
MatrixStorage probe_storage();

/// The matrix as it will be quantized: by `method`, or where calibration saw no input of it by plain fitting.
LayerQuantizer make_layer_quantizer(QuantMethod method, const InputMoments* moments, int64_t cols, ThreadPool& pool);

/// Losses of the options are errors of a sample of rows, quantized by `method`, under the moments of the inputs. Their
/// scale is that of plain rounding, whose errors know nothing of each other and so cost what the Fisher information
/// says. `moments` gives null for a matrix whose input calibration does not see. `sensitivities` hold every candidate.
/// `on_progress` may throw.
std::vector<MatrixLosses> predict_losses(const ModelWeights& weights, std::span<const TensorSensitivity> sensitivities,
                                         QuantMethod method,
                                         const std::function<const InputMoments*(TensorRole, int)>& moments,
                                         std::span<const MatrixCandidates> candidates, ThreadPool& pool,
                                         const std::function<void(double)>& on_progress);

}  // namespace mobilellm
