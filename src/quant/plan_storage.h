/// The storage of every matrix before any is quantized: by one setting, a recipe, exceptions by name, or a limit of
/// bits.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "model/loader.h"
#include "quant/mixed_plan.h"
#include "quant/model_moments.h"
#include "quant/quantize_model.h"
#include "quant/storage_plan.h"

namespace mobilellm {

/// Settings that need no calibration. `matrices` as the target names them.
StoragePlan plan_fixed(const QuantizeOptions& options, const ModelSpec& spec, std::span<const TensorEntry> matrices);

/// Up to 1024 tokens in pieces of 128, evenly from all chunks: enough for sensitivities.
std::vector<std::vector<int32_t>> sensitivity_pieces(std::span<const std::vector<int32_t>> chunks);

/// The least predicted loss within options.target_bpw. Throws kInvalidArgument when nothing fits, saying the least that
/// would.
StoragePlan plan_mixed(const QuantizeOptions& options, const LoadedModel& model, std::span<const TensorEntry> matrices,
                       std::span<const TensorSensitivity> sensitivities,
                       const std::function<const InputMoments*(TensorRole, int)>& moments, ThreadPool& pool,
                       const std::function<void(double)>& on_progress);

}  // namespace mobilellm
