// Matching of tensor names and shapes.
#include "model/binding.h"

#include <algorithm>
#include <unordered_set>
#include <utility>

#include "base/error.h"
#include "base/log.h"

namespace mobilellm {
namespace {

constexpr std::string_view kWeightSuffix = ".weight";
constexpr size_t kMaxListed = 8;

std::string module_path(std::string_view weight_name) {
  return std::string(weight_name.substr(0, weight_name.size() - kWeightSuffix.size()));
}

/// Tensors that some writers store and no program needs.
bool is_known_useless(const std::string& name, const ModelDescription& description) {
  if (name.ends_with("rotary_emb.inv_freq")) return true;
  if (description.names == NameScheme::kGguf) return name == "rope_freqs.weight";
  if (!description.spec.is_output_tied) return false;
  for (const char* head : {"lm_head.", "output.", "model.lm_head.", "model.output."}) {
    if (name.starts_with(head)) return true;
  }
  return false;
}

class Matcher {
 public:
  Matcher(const ModelDescription& description, const WeightSource& source,
          const std::optional<QuantizationConfig>& quantization)
      : description_(description), source_(source), quantization_(quantization) {}

  BindingReport match() {
    report_.table = tensor_table(description_);
    report_.matches.resize(report_.table.size());
    for (size_t i = 0; i < report_.table.size(); ++i) match_entry(report_.table[i], report_.matches[i]);
    for (const TensorView& tensor : source_.tensors()) {
      if (!used_.contains(tensor.name)) report_other(tensor);
    }
    return std::move(report_);
  }

 private:
  void match_entry(const TensorEntry& entry, TensorMatch& match) {
    for (const std::string& name : entry.names) {
      match.weight = source_.find(name);
      if (match.weight != nullptr) break;
    }
    if (match.weight == nullptr) {
      TensorCheck check;
      check.name = usual_name(entry);
      check.expected = entry.shape;
      check.status = TensorStatus::kMissing;
      report_.checks.push_back(std::move(check));
      return;
    }
    used_.insert(match.weight->name);
    if (entry.is_matrix()) {
      const std::string path = module_path(match.weight->name);
      match.scales = source_.find(path + ".scales");
      if (match.scales != nullptr) {
        match.biases = source_.find(path + ".biases");
        match_packed(entry, path, match);
        return;
      }
    }
    TensorCheck check = describe_tensor(*match.weight, entry.shape);
    check_value_type(*match.weight, check);
    report_.checks.push_back(std::move(check));
  }

  /// The accepted name in the spelling of this file's neighbours: that of "model." or not is enough for a message.
  std::string usual_name(const TensorEntry& entry) const {
    const bool has_prefix = source_.find("model.norm.weight") != nullptr;
    for (const std::string& name : entry.names) {
      if (name.starts_with("model.") == has_prefix) return name;
    }
    return entry.names.front();
  }

  static TensorCheck describe_tensor(const TensorView& tensor, const std::vector<int64_t>& expected) {
    TensorCheck check;
    check.name = tensor.name;
    check.type = tensor.type_name();
    check.shape = tensor.shape;
    check.expected = expected;
    if (tensor.shape != expected) check.status = TensorStatus::kMisshaped;
    return check;
  }

  static void check_value_type(const TensorView& tensor, TensorCheck& check) {
    if (!tensor.unsupported_type.empty()) {
      check.status = TensorStatus::kUnusable;
      check.note = fmt::format("type {} is not supported", tensor.unsupported_type);
    } else if (find_codec(tensor.dtype) == nullptr) {
      check.status = TensorStatus::kUnusable;
      check.note = fmt::format("type {} holds no weights without scales", dtype_name(tensor.dtype));
    }
  }

  void match_packed(const TensorEntry& entry, const std::string& path, TensorMatch& match) {
    used_.insert(match.scales->name);
    if (match.biases != nullptr) used_.insert(match.biases->name);
    if (quantization_) match.quantization = quantization_->params_for(path);
    if (!match.quantization) {
      TensorCheck check = describe_tensor(*match.weight, entry.shape);
      check.status = TensorStatus::kUnusable;
      check.note = fmt::format("there is {}, but config.json {}", match.scales->name,
                               quantization_ ? "says that it is not quantized" : "has no \"quantization\"");
      report_.checks.push_back(std::move(check));
      return;
    }
    const QuantizationParams& params = *match.quantization;
    const int64_t out = entry.shape[0];
    const int64_t in = entry.shape[1];
    TensorCheck weight = describe_tensor(*match.weight, {out, in * params.bits / 32});
    weight.note = fmt::format("{} {} bits, group {}: {}", quant_mode_name(params.mode), params.bits, params.group_size,
                              shape_text(entry.shape));
    if (in % params.group_size != 0) {
      weight.status = TensorStatus::kMisshaped;
      weight.note = fmt::format("{} columns are no multiple of the group size {}", in, params.group_size);
    }
    if (match.weight->dtype != DType::kU32) {
      weight.status = TensorStatus::kUnusable;
      weight.note = "packed weights are U32";
    }
    report_.checks.push_back(std::move(weight));
    const std::vector<int64_t> groups = {out, in / params.group_size};
    report_.checks.push_back(describe_tensor(*match.scales, groups));
    const bool wants_biases = params.mode == QuantMode::kAffine;
    if (match.biases != nullptr) {
      TensorCheck biases = describe_tensor(*match.biases, groups);
      if (!wants_biases) {
        biases.status = TensorStatus::kUnusable;
        biases.note = fmt::format("{} has no biases", quant_mode_name(params.mode));
      }
      report_.checks.push_back(std::move(biases));
    } else if (wants_biases) {
      TensorCheck missing;
      missing.name = path + ".biases";
      missing.expected = groups;
      missing.status = TensorStatus::kMissing;
      report_.checks.push_back(std::move(missing));
    }
  }

  void report_other(const TensorView& tensor) {
    TensorCheck check;
    check.name = tensor.name;
    check.type = tensor.type_name();
    check.shape = tensor.shape;
    const bool is_ignored = is_known_useless(tensor.name, description_);
    check.status = is_ignored ? TensorStatus::kIgnored : TensorStatus::kUnexpected;
    if (tensor.name == "rope_freqs.weight" && description_.names == NameScheme::kGguf) {
      check.status = TensorStatus::kOk;
      check.note = "divisors of the RoPE frequencies";
    } else if (is_ignored) {
      check.note = "not needed";
    }
    report_.checks.push_back(std::move(check));
  }

  const ModelDescription& description_;
  const WeightSource& source_;
  const std::optional<QuantizationConfig>& quantization_;
  std::unordered_set<std::string_view> used_;
  BindingReport report_;
};

std::vector<float> decode_vector(const TensorView& tensor, NormTransform transform) {
  std::vector<float> values = decode_tensor(tensor);
  if (transform == NormTransform::kAddOne) {
    for (float& value : values) value += 1.0f;
  }
  return values;
}

StoredMatrix make_stored_matrix(const TensorMatch& match) {
  if (match.quantization) {
    return make_quantized_matrix(*match.weight, *match.scales, match.biases, *match.quantization);
  }
  return make_matrix(*match.weight);
}

StoredMatrix& matrix_slot(TensorRole role, LayerWeights& layer, ModelWeights& weights) {
  switch (role) {
    case TensorRole::kEmbedTokens:
      return weights.embed_tokens;
    case TensorRole::kLmHead:
      return weights.lm_head;
    case TensorRole::kQProj:
      return layer.q_proj.matrix;
    case TensorRole::kKProj:
      return layer.k_proj.matrix;
    case TensorRole::kVProj:
      return layer.v_proj.matrix;
    case TensorRole::kOProj:
      return layer.o_proj.matrix;
    case TensorRole::kGateProj:
      return layer.gate_proj.matrix;
    case TensorRole::kUpProj:
      return layer.up_proj.matrix;
    case TensorRole::kDownProj:
      return layer.down_proj.matrix;
    case TensorRole::kPlainUp:
      return layer.plain_up.matrix;
    case TensorRole::kPlainDown:
      return layer.plain_down.matrix;
    default:
      fail(ErrorCode::kInternal, "[weights] role {} is no matrix", static_cast<int>(role));
  }
}

std::vector<float>& vector_slot(TensorRole role, LayerWeights& layer, ModelWeights& weights) {
  switch (role) {
    case TensorRole::kFinalNorm:
      return weights.final_norm;
    case TensorRole::kAttentionNorm:
      return layer.attention_norm;
    case TensorRole::kAttentionPostNorm:
      return layer.attention_post_norm;
    case TensorRole::kMlpNorm:
      return layer.mlp_norm;
    case TensorRole::kMlpPostNorm:
      return layer.mlp_post_norm;
    case TensorRole::kQNorm:
      return layer.q_norm;
    case TensorRole::kKNorm:
      return layer.k_norm;
    case TensorRole::kQBias:
      return layer.q_proj.bias;
    case TensorRole::kKBias:
      return layer.k_proj.bias;
    case TensorRole::kVBias:
      return layer.v_proj.bias;
    case TensorRole::kOBias:
      return layer.o_proj.bias;
    case TensorRole::kGateBias:
      return layer.gate_proj.bias;
    case TensorRole::kUpBias:
      return layer.up_proj.bias;
    case TensorRole::kDownBias:
      return layer.down_proj.bias;
    default:
      fail(ErrorCode::kInternal, "[weights] role {} is no vector", static_cast<int>(role));
  }
}

}  // namespace

const char* to_string(TensorStatus status) {
  switch (status) {
    case TensorStatus::kOk:
      return "ok";
    case TensorStatus::kMissing:
      return "missing";
    case TensorStatus::kUnexpected:
      return "unexpected";
    case TensorStatus::kMisshaped:
      return "mis-shaped";
    case TensorStatus::kUnusable:
      return "unusable";
    case TensorStatus::kIgnored:
      return "ignored";
  }
  return "?";
}

std::string BindingReport::first_error() const {
  // A wrong shape explains more than what is missing, so it comes first.
  for (const TensorCheck& check : checks) {
    if (check.status == TensorStatus::kMisshaped) {
      return fmt::format("tensor '{}' has shape {}, expected {}{}{}", printable_name(check.name),
                         shape_text(check.shape), shape_text(check.expected), check.note.empty() ? "" : "; ",
                         check.note);
    }
    if (check.status == TensorStatus::kUnusable) {
      return fmt::format("tensor '{}' ({} {}): {}", printable_name(check.name), check.type, shape_text(check.shape),
                         check.note);
    }
  }
  std::string missing;
  size_t n_missing = 0;
  for (const TensorCheck& check : checks) {
    if (check.status != TensorStatus::kMissing) continue;
    if (n_missing++ >= kMaxListed) continue;
    missing += fmt::format("{}'{}' {}", missing.empty() ? "" : ", ", check.name, shape_text(check.expected));
  }
  if (n_missing == 0) return "";
  if (n_missing > kMaxListed) missing += ", ...";
  return fmt::format("{} tensor{} missing: {}", n_missing, n_missing == 1 ? " is" : "s are", missing);
}

std::string BindingReport::unexpected_tensors() const {
  std::string names;
  size_t n_unexpected = 0;
  for (const TensorCheck& check : checks) {
    if (check.status != TensorStatus::kUnexpected) continue;
    if (n_unexpected++ >= kMaxListed) continue;
    names += fmt::format("{}'{}'", names.empty() ? "" : ", ", printable_name(check.name));
  }
  if (n_unexpected == 0) return "";
  return fmt::format("{} unexpected tensor{}: {}{}", n_unexpected, n_unexpected == 1 ? "" : "s", names,
                     n_unexpected > kMaxListed ? ", ..." : "");
}

BindingReport match_tensors(const ModelDescription& description, const WeightSource& source,
                            const std::optional<QuantizationConfig>& quantization) {
  return Matcher(description, source, quantization).match();
}

ModelWeights bind_weights(const ModelDescription& description, std::shared_ptr<WeightSource> source,
                          const std::optional<QuantizationConfig>& quantization) {
  const BindingReport report = match_tensors(description, *source, quantization);
  const std::string error = report.first_error();
  if (!error.empty()) {
    const bool is_type_problem = std::any_of(
        report.matches.begin(), report.matches.end(),
        [](const TensorMatch& match) { return match.weight != nullptr && !match.weight->unsupported_type.empty(); });
    fail(is_type_problem ? ErrorCode::kUnsupported : ErrorCode::kCorruptData, "[weights] {}: {}", source->path(),
         error);
  }
  const std::string unexpected = report.unexpected_tensors();
  if (!unexpected.empty()) log_warning("[weights] {}: not used: {}", source->path(), unexpected);

  ModelWeights weights;
  weights.layers.resize(description.spec.layers.size());
  LayerWeights no_layer;
  for (size_t i = 0; i < report.table.size(); ++i) {
    const TensorEntry& entry = report.table[i];
    LayerWeights& layer = entry.layer < 0 ? no_layer : weights.layers[static_cast<size_t>(entry.layer)];
    if (entry.is_matrix()) {
      matrix_slot(entry.role, layer, weights) = make_stored_matrix(report.matches[i]);
    } else {
      vector_slot(entry.role, layer, weights) = decode_vector(*report.matches[i].weight, entry.transform);
    }
  }
  weights.source = std::move(source);
  return weights;
}

TensorShapes tensor_shapes(const WeightSource& source) {
  TensorShapes shapes;
  for (const TensorView& tensor : source.tensors()) shapes.emplace(tensor.name, tensor.shape);
  return shapes;
}

}  // namespace mobilellm
