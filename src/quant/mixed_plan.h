/// Bits for each matrix by what they cost: errors of every storage under the calibrated inputs, times what the model's
/// predictions lose by an error in that matrix, measured.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "quant/bit_allocation.h"
#include "quant/layer_quantizer.h"
#include "quant/loss_meter.h"
#include "quant/model_moments.h"
#include "quant/storage_plan.h"

namespace mobilellm {

struct MatrixCandidates {
  TensorRole role;
  int layer;  ///< As in TensorEntry.
  std::vector<MatrixStorage> options;
};

struct MatrixLosses {
  std::vector<StorageCost> costs;  ///< One for each option; the loss is a predicted KL in nats per token.
  double measured_loss = 0;        ///< KL of the model with this matrix alone rounded to probe_storage().
};

/// What measuring rounds one matrix to.
MatrixStorage probe_storage();

/// The matrix as it will be quantized: by `method`, or where calibration saw no input of it by plain fitting.
LayerQuantizer make_layer_quantizer(QuantMethod method, const InputMoments* moments, int64_t cols, ThreadPool& pool);

/// Candidates in the order of layers, whole-model matrices first. Losses of the options are those of a sample of rows,
/// quantized by `method`; their scale is the measured one. `moments` gives null for a matrix whose input calibration
/// does not see. `on_progress` may throw.
std::vector<MatrixLosses> predict_losses(const ModelWeights& weights, LossMeter& meter, QuantMethod method,
                                         const std::function<const InputMoments*(TensorRole, int)>& moments,
                                         std::span<const MatrixCandidates> candidates, ThreadPool& pool,
                                         const std::function<void(double)>& on_progress);

}  // namespace mobilellm
