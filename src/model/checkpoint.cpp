// From opened files to a model description.
#include "model/checkpoint.h"

#include <vector>

#include "base/error.h"
#include "codec/codec.h"
#include "formats/safetensors.h"
#include "model/binding.h"

namespace mobilellm {
namespace {

/// Lists of one entry per layer are of interest, vocabularies are not.
constexpr size_t kMaxListElements = 4096;

Json to_json(const GgufFile& file, const std::string& key, const GgufValue& value) {
  switch (value.type) {
    case GgufType::kString:
      return std::string(value.text);
    case GgufType::kBool:
      return value.integer != 0;
    case GgufType::kF32:
    case GgufType::kF64:
      return value.number;
    case GgufType::kArray:
      break;
    default:
      return value.integer;
  }
  Json list = Json::array();
  if (value.element_type == GgufType::kString) {
    for (const std::string_view text : value.strings) list.push(text);
  } else if (value.element_type == GgufType::kF32 || value.element_type == GgufType::kF64) {
    for (const float number : file.get_floats(key)) list.push(static_cast<double>(number));
  } else {
    for (const int64_t integer : file.get_ints(key)) list.push(integer);
  }
  return list;
}

std::vector<float> read_rope_divisors(const GgufFile& file) {
  const TensorView* tensor = file.find("rope_freqs.weight");
  if (tensor == nullptr) return {};
  check_supported(*tensor);
  if (tensor->n_values() > kMaxHeadDim / 2) {
    fail(ErrorCode::kCorruptData, "[config] {} has shape {}, expected at most [{}]", describe(*tensor),
         shape_text(tensor->shape), kMaxHeadDim / 2);
  }
  return decode_tensor(*tensor);
}

}  // namespace

Json gguf_metadata_json(const GgufFile& file) {
  Json::Object members;
  for (const std::string& key : file.keys()) {
    const GgufValue& value = *file.find_key(key);
    if (value.type == GgufType::kArray && value.n_elements > kMaxListElements) continue;
    members.emplace_back(key, to_json(file, key, value));
  }
  return members;
}

std::string checkpoint_format(const CheckpointDir& checkpoint) {
  if (checkpoint.is_gguf()) return "gguf";
  const auto* file = dynamic_cast<const SafetensorsSource*>(checkpoint.weights.get());
  const std::string* written_by = file == nullptr ? nullptr : file->find_metadata("format");
  const bool is_mlx = (written_by != nullptr && *written_by == "mlx") || checkpoint.config.find("quantization");
  return is_mlx ? "mlx" : "safetensors";
}

ModelDescription describe_checkpoint(const CheckpointDir& checkpoint) {
  const TensorShapes shapes = tensor_shapes(*checkpoint.weights);
  if (checkpoint.is_gguf()) {
    return describe_gguf(gguf_metadata_json(*checkpoint.gguf), checkpoint.gguf->path(), shapes,
                         read_rope_divisors(*checkpoint.gguf));
  }
  if (checkpoint.config.is_null()) {
    fail(ErrorCode::kNotFound, "[config] {}: there is no config.json beside the weights", checkpoint.path);
  }
  return describe_config(checkpoint.config, checkpoint.config_path, shapes, checkpoint_format(checkpoint) == "mlx");
}

std::optional<QuantizationConfig> checkpoint_quantization(const CheckpointDir& checkpoint) {
  if (checkpoint.is_gguf()) return std::nullopt;
  return parse_quantization_config(checkpoint.config, checkpoint.config_path);
}

}  // namespace mobilellm
