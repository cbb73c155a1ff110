/// Every tensor of the target, made from the tensors of the source in the order of the model's table.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "convert/convert.h"
#include "formats/planned_tensor.h"
#include "model/binding.h"

namespace mobilellm {

struct WeightPlan {
  std::vector<PlannedTensor> tensors;
  Json quantization;               ///< Section for config.json of MLX; null when nothing is packed.
  DType main_dtype = DType::kF32;  ///< Float type of the embedding table, or of what stands for it when it is packed.
  /// Grows while the tensors are written.
  std::shared_ptr<std::vector<ChangedTensor>> changed;
  std::vector<std::string> notes;
  /// Norm weights that GGUF's folding of 1 + w rounds: target name and the original values.
  std::vector<std::pair<std::string, std::vector<float>>> rounded_norms;
};

struct WeightPlanInput {
  const ModelDescription& source;
  const ModelDescription& target;
  const WeightSource& weights;
  const BindingReport& binding;  ///< Of `source` and `weights`, without errors.
  const ConvertOptions& options;
  /// Float type that config.json gives the model; vectors that are F32 in GGUF take it where that loses nothing.
  std::optional<DType> declared_dtype;
  /// Original values of norms that GGUF rounded, by source name; empty when unknown.
  std::function<std::vector<float>(const std::string& name)> original_norm;
  std::function<void(size_t n_bytes)> on_bytes;  ///< Called for all bytes written; may throw.
};

/// Reads vectors and no matrices. The plan refers to the input's weights and functions.
WeightPlan plan_weights(const WeightPlanInput& input);

/// Reads every weight of a model; `binding` must be of `weights` and without errors. Throws kCorruptData naming the
/// tensor and the place of a NaN or infinity.
void check_finite_weights(const BindingReport& binding, const WeightSource& weights);

}  // namespace mobilellm
