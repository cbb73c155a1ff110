// Making a configuration, and reading it back to see that nothing is lost.
#include "convert/target_config.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/files.h"
#include "codec/codec.h"
#include "model/tensor_table.h"

namespace mobilellm {
namespace {

constexpr size_t kMaxListElements = 4096;

bool is_quantization_key(std::string_view key) { return key == "quantization" || key == "quantization_config"; }

void erase_keys(Json& object, bool (*is_unwanted)(std::string_view key)) {
  std::erase_if(object.as_object(), [&](const Json::Member& member) { return is_unwanted(member.first); });
}

/// Names and shapes of the target's tensors, unpacked.
TensorShapes target_shapes(const ModelDescription& source, NameScheme names) {
  ModelDescription target = source;
  target.names = names;
  TensorShapes shapes;
  for (const TensorEntry& entry : tensor_table(target)) shapes.emplace(entry.names.front(), entry.shape);
  return shapes;
}

struct ToJson {
  template <typename T>
  Json operator()(const T& value) const {
    if constexpr (std::is_same_v<T, std::string> || std::is_same_v<T, bool>) {
      return value;
    } else if constexpr (std::is_same_v<T, float>) {
      return static_cast<double>(value);
    } else if constexpr (std::is_same_v<T, GgufEncodedValue>) {
      return nullptr;
    } else {
      return static_cast<int64_t>(value);
    }
  }
  template <typename T>
  Json operator()(const std::vector<T>& values) const {
    Json list = Json::array();
    if (values.size() > kMaxListElements) return list;
    for (size_t i = 0; i < values.size(); ++i) list.push((*this)(static_cast<T>(values[i])));
    return list;
  }
};

Json metadata_json(const GgufMetadata& metadata) {
  Json::Object members;
  for (const auto& [key, value] : metadata.entries()) members.emplace_back(key, std::visit(ToJson{}, value));
  return members;
}

bool needs_divisors(const ModelSpec& spec) {
  const RopeScaling::Kind kind = spec.rope_tables[0].recipe.kind;
  return kind == RopeScaling::Kind::kLlama3 || kind == RopeScaling::Kind::kUnknown;
}

[[noreturn]] void fail_difference(const char* what, const std::string& difference) {
  fail(ErrorCode::kUnsupported, "[convert] {} cannot describe this model: {}", what, difference);
}

ModelDescription describe_folder(const Json& config, const ModelDescription& source, ModelFormat format) {
  const bool is_mlx = format == ModelFormat::kMlx;
  const NameScheme names = is_mlx ? NameScheme::kMlx : NameScheme::kHuggingFace;
  ModelDescription description = describe_config(config, "the new config.json", target_shapes(source, names), is_mlx);
  description.names = names;
  return description;
}

Json new_config(const ModelDescription& source) {
  const Architecture& architecture = *source.architecture;
  Json config = Json::object();
  config.set("architectures", Json(Json::Array{architecture.class_name})).set("model_type", architecture.model_type);
  const Json values = architecture.to_config(source.spec);
  for (const auto& [key, value] : values.as_object()) config.set(key, value);
  return config;
}

void make_folder(const CheckpointDir& checkpoint, const ModelDescription& source, ModelFormat format,
                 TargetConfig& target) {
  Json config = checkpoint.is_gguf() ? carried_config(*checkpoint.gguf) : checkpoint.config;
  if (!config.is_null()) {
    erase_keys(config, is_quantization_key);
    try {
      target.description = describe_folder(config, source, format);
      const std::string difference = first_difference(source.spec, target.description.spec);
      if (difference.empty()) {
        target.config = std::move(config);
        return;
      }
      // Of a folder it is the description itself, so this is a GGUF file that was changed after it was written.
      target.notes.push_back(
          fmt::format("the file's {} is not used, as it differs from its other keys ({})", kGgufConfigKey, difference));
    } catch (const Error& error) {
      if (!checkpoint.is_gguf()) throw;
      target.notes.push_back(fmt::format("the file's {} is not used: {}", kGgufConfigKey, error.what()));
    }
  }
  target.config = new_config(source);
  target.description = describe_folder(target.config, source, format);
  const std::string difference = first_difference(source.spec, target.description.spec);
  if (!difference.empty()) fail_difference("config.json", difference);
}

std::string model_name(const CheckpointDir& checkpoint) {
  std::string name = file_name(checkpoint.path);
  if (name.empty() || name == "." || name == "..") name = "model";
  return name;
}

void carry_json(const Json& value, const char* key, GgufMetadata& metadata) {
  if (!value.is_null()) metadata.set(key, value.dump());
}

void make_gguf(const CheckpointDir& checkpoint, const ModelDescription& source, TargetConfig& target) {
  GgufMetadata& metadata = target.metadata;
  const Architecture& architecture = *source.architecture;
  if (checkpoint.is_gguf()) {
    for (const std::string& key : checkpoint.gguf->keys()) {
      if (key.starts_with("split.") || key == "general.alignment") continue;
      metadata.set(key, encode_gguf_value(*checkpoint.gguf->find_key(key)));
    }
    target.description = source;
    const TensorView* divisors = checkpoint.gguf->find("rope_freqs.weight");
    if (divisors != nullptr) target.rope_divisors = decode_tensor(*divisors);
    return;
  }
  metadata.set("general.architecture", std::string(architecture.gguf_name));
  metadata.set("general.type", std::string("model"));
  metadata.set("general.name", model_name(checkpoint));
  architecture.to_gguf(source.spec, metadata);
  metadata.set("general.quantization_version", uint32_t{2});
  Json config = checkpoint.config;
  erase_keys(config, is_quantization_key);
  carry_json(config, kGgufConfigKey, metadata);
  carry_json(checkpoint.generation_config, kGgufGenerationKey, metadata);
  if (needs_divisors(source.spec)) target.rope_divisors = rope_divisors(source.spec.rope_tables[0]);
  target.description = describe_gguf(metadata_json(metadata), "the new metadata",
                                     target_shapes(source, NameScheme::kGguf), target.rope_divisors);
  const std::string difference = first_difference(source.spec, target.description.spec);
  if (!difference.empty()) fail_difference("GGUF metadata", difference);
}

// mlx-lm reads RoPE and window settings only under their older names.
void add_older_keys(const ModelDescription& source, Json& config) {
  const Json values = source.architecture->to_config(source.spec);
  for (const char* key : {"rope_theta", "rope_scaling", "rope_local_base_freq", "sliding_window_pattern"}) {
    const Json* value = values.find(key);
    if (value != nullptr && !value->is_null() && config.find(key) == nullptr) config.set(key, *value);
  }
}

void add_limits(const ModelDescription& source, ModelFormat format, std::vector<std::string>& notes) {
  std::string (*const limits)(const ModelSpec&) = format == ModelFormat::kMlx    ? source.architecture->mlx_limits
                                                  : format == ModelFormat::kGguf ? source.architecture->gguf_limits
                                                                                 : nullptr;
  std::string text = limits == nullptr ? std::string() : limits(source.spec);
  if (!text.empty()) notes.push_back(std::move(text));
}

}  // namespace

Json carried_config(const GgufFile& file) {
  const GgufValue* value = file.find_key(kGgufConfigKey);
  if (value == nullptr || value->type != GgufType::kString) return nullptr;
  Json config = Json::parse(value->text, file.path() + ": " + kGgufConfigKey);
  if (!config.is_object()) return nullptr;
  // Names code that some programs would fetch and run; a file of weights has no business with it.
  erase_keys(config, [](std::string_view key) { return key == "auto_map" || key == "custom_pipelines"; });
  return config;
}

std::optional<DType> declared_dtype(const Json& config) {
  for (const char* key : {"torch_dtype", "dtype"}) {
    const Json* value = config.find(key);
    if (value == nullptr || !value->is_string()) continue;
    if (value->as_string() == "float32") return DType::kF32;
    if (value->as_string() == "float16") return DType::kF16;
    if (value->as_string() == "bfloat16") return DType::kBF16;
  }
  return std::nullopt;
}

TargetConfig make_target_config(const CheckpointDir& source, const ModelDescription& description, ModelFormat format) {
  TargetConfig target;
  if (format == ModelFormat::kGguf) {
    make_gguf(source, description, target);
  } else {
    make_folder(source, description, format, target);
    if (format == ModelFormat::kMlx) add_older_keys(description, target.config);
  }
  add_limits(description, format, target.notes);
  return target;
}

}  // namespace mobilellm
