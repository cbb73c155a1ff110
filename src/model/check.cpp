// A report on a checkpoint from its headers.
#include "model/check.h"

#include <algorithm>

#include "base/error.h"
#include "model/checkpoint.h"

namespace mobilellm {
namespace {

const char* mlp_variant_name(const LayerSpec& layer) {
  if (layer.mlp == MlpKind::kDualBranch) return "dual-branch";
  return layer.activation == Activation::kSilu ? "SwiGLU" : "GeGLU";
}

void add_totals(ModelCheck& check, const WeightSource& source) {
  for (const TensorView& tensor : source.tensors()) {
    const std::string type = tensor.type_name();
    auto total = std::find_if(check.dtypes.begin(), check.dtypes.end(),
                              [&](const DTypeTotal& entry) { return entry.type == type; });
    if (total == check.dtypes.end()) total = check.dtypes.insert(total, {type, 0, 0});
    ++total->n_tensors;
    total->n_bytes += static_cast<int64_t>(tensor.data.size());
    check.n_weight_bytes += static_cast<int64_t>(tensor.data.size());
  }
}

std::string problem_line(const TensorCheck& tensor) {
  const std::string name = printable_name(tensor.name);
  switch (tensor.status) {
    case TensorStatus::kMissing:
      return fmt::format("missing tensor '{}', expected {}", name, shape_text(tensor.expected));
    case TensorStatus::kMisshaped:
      return fmt::format("mis-shaped tensor '{}': got {}, expected {}", name, shape_text(tensor.shape),
                         shape_text(tensor.expected));
    case TensorStatus::kUnusable:
      return fmt::format("unusable tensor '{}' ({} {}): {}", name, tensor.type, shape_text(tensor.shape), tensor.note);
    case TensorStatus::kUnexpected:  // Told together.
    case TensorStatus::kOk:
    case TensorStatus::kIgnored:
      break;
  }
  return "";
}

void list_unchecked(ModelCheck& check, const WeightSource& source) {
  for (const TensorView& tensor : source.tensors()) {
    TensorCheck entry;
    entry.name = tensor.name;
    entry.type = tensor.type_name();
    entry.shape = tensor.shape;
    entry.note = "not checked";
    check.tensors.push_back(std::move(entry));
  }
}

void check_weights(ModelCheck& check, const CheckpointDir& checkpoint) {
  std::optional<QuantizationConfig> quantization;
  ModelDescription description;
  try {
    quantization = checkpoint_quantization(checkpoint);
  } catch (const Error& error) {
    check.problems.emplace_back(error.what());
  }
  try {
    description = describe_checkpoint(checkpoint);
  } catch (const Error& error) {
    check.problems.emplace_back(error.what());
    list_unchecked(check, *checkpoint.weights);
    return;
  }
  check.spec = description.spec;
  check.mlp_variant = mlp_variant_name(description.spec.layers.front());
  check.mlp_reason = description.spec.mlp_reason;
  check.n_parameters = parameter_count(description.spec);
  check.bits_per_weight = static_cast<double>(check.n_weight_bytes) * 8 / static_cast<double>(check.n_parameters);
  BindingReport report = match_tensors(description, *checkpoint.weights, quantization);
  std::string unexpected = report.unexpected_tensors();
  check.tensors = std::move(report.checks);
  for (const TensorCheck& tensor : check.tensors) {
    std::string line = problem_line(tensor);
    if (!line.empty()) check.problems.push_back(std::move(line));
  }
  if (!unexpected.empty()) check.problems.push_back(std::move(unexpected));
}

}  // namespace

ModelCheck check_model(const std::string& path) {
  ModelCheck check;
  check.path = path;
  try {
    const CheckpointDir checkpoint = open_checkpoint(path);
    check.format = checkpoint_format(checkpoint);
    add_totals(check, *checkpoint.weights);
    check_weights(check, checkpoint);
  } catch (const Error& error) {
    check.problems.emplace_back(error.what());
  }
  return check;
}

}  // namespace mobilellm
