// The list of families and the choice among them.
#include "model/arch/registry.h"

#include <array>
#include <cmath>

#include "base/error.h"
#include "tensor/float_convert.h"

namespace mobilellm {

extern const Architecture kLlama4Text, kLlama, kQwen2, kQwen3, kGemma3Text, kOlmo2;

namespace {

constexpr std::array kArchitectures = {&kLlama4Text, &kLlama, &kQwen2, &kQwen3, &kGemma3Text, &kOlmo2};

std::string known_names(const char* Architecture::* name) {
  std::string list;
  for (const Architecture* architecture : kArchitectures) {
    if (!list.empty()) list += ", ";
    list += architecture->*name;
  }
  return list;
}

const Architecture* find_by(const char* Architecture::* field, const std::string& value) {
  for (const Architecture* architecture : kArchitectures) {
    if (architecture->*field == value) return architecture;
  }
  return nullptr;
}

/// The first entry of `architectures`, or "".
std::string read_class_name(JsonObjectReader& config) {
  const Json* classes = config.find("architectures");
  if (classes == nullptr) return "";
  if (!classes->is_array() || (!classes->as_array().empty() && !classes->as_array()[0].is_string())) {
    config.fail_key("architectures", "expected a list of class names");
  }
  return classes->as_array().empty() ? "" : classes->as_array()[0].as_string();
}

void set_display_facts(ModelSpec& spec, const Architecture& architecture) {
  spec.architecture = architecture.model_type;
  if (spec.mlp_reason.empty()) spec.mlp_reason = std::string("the only MLP of ") + architecture.model_type;
}

/// The embedding scale in the type that the reference multiplies in.
float round_embedding_scale(float scale, const std::string& dtype, bool is_mlx) {
  if (is_mlx || dtype == "bfloat16") return bf16_to_float(float_to_bf16(scale));
  if (dtype == "float16") return fp16_to_float(float_to_fp16(scale));
  return scale;
}

}  // namespace

std::span<const Architecture* const> all_architectures() { return kArchitectures; }

ModelDescription describe_config(const Json& config, const std::string& origin, const TensorShapes& tensors,
                                 bool is_mlx) {
  JsonObjectReader reader(config, origin);
  const std::string class_name = read_class_name(reader);
  const std::string model_type = reader.get_string("model_type", "");
  const Architecture* architecture = model_type.empty() ? find_by(&Architecture::class_name, class_name)
                                                        : find_by(&Architecture::model_type, model_type);
  if (architecture == nullptr) {
    fail(ErrorCode::kUnsupported, "[config] {}: model_type: got \"{}\" ({}), supported are {}", origin, model_type,
         class_name.empty() ? "no architectures" : class_name, known_names(&Architecture::model_type));
  }
  if (!class_name.empty() && !class_name.ends_with("ForCausalLM")) {
    fail(ErrorCode::kUnsupported, "[config] {}: architectures: got \"{}\", expected \"{}\"", origin, class_name,
         architecture->class_name);
  }

  ModelDescription description;
  description.architecture = architecture;
  description.spec = architecture->from_config(reader, tensors);
  set_display_facts(description.spec, *architecture);
  description.norm_transform = architecture->norm_weight;
  const std::string dtype = reader.get_string("dtype", reader.get_string("torch_dtype", "float32"));
  description.spec.embedding_scale = round_embedding_scale(description.spec.embedding_scale, dtype, is_mlx);
  refuse_unknown_keys(reader, config);
  validate(description.spec, origin);
  return description;
}

ModelDescription describe_gguf(const Json& metadata, const std::string& origin, const TensorShapes& tensors,
                               const std::vector<float>& rope_divisors) {
  JsonObjectReader reader(metadata, origin);
  const std::string name = reader.get_string("general.architecture");
  const Architecture* architecture = find_by(&Architecture::gguf_name, name);
  if (architecture == nullptr) {
    fail(ErrorCode::kUnsupported, "[config] {}: general.architecture: got \"{}\", supported are {}", origin, name,
         known_names(&Architecture::gguf_name));
  }
  ModelDescription description;
  description.architecture = architecture;
  description.names = NameScheme::kGguf;
  description.spec = architecture->from_gguf(reader, tensors, rope_divisors);
  set_display_facts(description.spec, *architecture);

  // Keys of other programs, the vocabulary and the quantizer have their own prefixes; only the model's own matter.
  for (const auto& [key, value] : metadata.as_object()) {
    if (!key.starts_with(name + ".")) reader.ignore(key);
  }
  refuse_unknown_keys(reader, metadata);
  validate(description.spec, origin);
  return description;
}

}  // namespace mobilellm
