/// Quantization of whole models: calibration, then a conversion that stores matrices in fewer bits.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "codec/quantization_config.h"
#include "convert/convert.h"
#include "quant/distill.h"
#include "quant/layer_quantizer.h"
#include "quant/recipes.h"

namespace mobilellm {

struct QuantizeOptions {
  std::string source;                      ///< A model in floats (quantized ones are decoded first).
  std::string target;                      ///< Must not exist: a folder for mlx-lm, or a file that ends in .gguf.
  ModelFormat format = ModelFormat::kMlx;  ///< kMlx or kGguf.
  QuantizationParams params;               ///< Of packed groups (kMlx).
  DType block_type = DType::kQ4_0;         ///< Of GGUF blocks (kGguf).
  const StorageRecipe* recipe = nullptr;   ///< Instead of params or block_type; of the same format.
  /// Instead of them: every matrix gets the storage with which the model is predicted to lose least while the whole
  /// target, embedding and what stays float included, has at most so many bits per parameter.
  std::optional<double> target_bpw;
  std::optional<int> target_group;         ///< With target_bpw, of packed groups: no other size.
  uint64_t seed = 0;                       ///< Of the labels and signs that gradients are taken of.
  std::vector<StorageOverride> overrides;  ///< Win over all of these; the last that matches counts.
  QuantMethod method = QuantMethod::kRtn;  ///< kGptq, kYaqa, kDwq: affine groups only.
  /// Text files, or .jsonl with a key "text"; none: default_calibration_text().
  std::vector<std::string> calibration;
  int64_t calibration_tokens = 0;  ///< At most; 0: default_calibration_tokens().
  DistillOptions distillation;     ///< Of kDwq; n_steps 0: what about 15 minutes on two cores allow.
  /// Names the build, so that no other one continues what this one began (see kept_run.h: whatever changes the result
  /// must be in its run_identity()).
  std::string program;
  int n_threads = 0;  ///< 0: every core this process may use.
  /// "reading", "calibrating", "measuring", "measuring outputs", "choosing bits", "quantizing" or "distilling", and the
  /// share of it that is done.
  std::function<void(const char* stage, double fraction)> on_progress;
  const std::atomic<bool>* cancel = nullptr;  ///< Looked at often; makes quantize_model() throw kCancelled.
};

/// How one matrix was stored.
struct QuantizedMatrix {
  std::string name;  ///< In the target.
  std::string storage;
  int64_t n_values = 0;
  /// Root of (expected squared error of the outputs / expected squared outputs), by the calibration's mean squares of
  /// inputs; without calibration of the weights themselves.
  double relative_error = 0;
  /// With target_bpw, KL in nats per token: predicted for this storage, and measured with this matrix alone rounded to
  /// 4 bits in groups of 64.
  double predicted_loss = 0;
  double rounding_loss = 0;
};

struct QuantizeReport {
  ConvertReport conversion;
  std::vector<QuantizedMatrix> matrices;
  int64_t n_calibration_tokens = 0;
  std::optional<DistillReport> distillation;  ///< Of kDwq.
};

/// Tokens of calibration when nothing else is asked for: 65,536, half as many for models above 400M parameters.
int64_t default_calibration_tokens(const ModelSpec& spec);

/// Everything but norms and biases is quantized, embedding and head too. Rows that do not divide into the chosen groups
/// or blocks take a smaller group or a type with smaller blocks, or stay float; the report says which. The result does
/// not depend on the number of threads. When a calibrated run ends early, its finished matrices, and the best state of
/// its training, stay in ".NAME.unfinished" beside the target, and the same run goes on from there with the same result;
/// a run with other options, files or programs starts over. Where they cannot be kept, a note says so. Throws as
/// convert_model(); kInvalidArgument for a method that the format has not, or calibration text without tokens.
QuantizeReport quantize_model(const QuantizeOptions& options);

class KeptRun;
/// The same for method kYaqa and below, with parts that another keeps; null: none are kept.
QuantizeReport quantize_kept(const QuantizeOptions& options, KeptRun* kept);

}  // namespace mobilellm
