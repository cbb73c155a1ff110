/// What the target says about itself: config.json of a folder, or metadata of a GGUF file, checked against the source.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "convert/convert.h"
#include "formats/checkpoint_dir.h"
#include "formats/gguf_writer.h"
#include "model/arch/registry.h"

namespace mobilellm {

/// Keys of GGUF files that carry what the standard ones cannot, so that a folder can be made again as it was.
inline constexpr const char* kGgufConfigKey = "mobilellm.config";
inline constexpr const char* kGgufGenerationKey = "mobilellm.generation_config";
inline constexpr const char* kGgufNormPrefix = "mobilellm.norm.";

struct TargetConfig {
  ModelDescription description;      ///< Of the target, as its readers will understand it.
  Json config;                       ///< Of a folder; without `quantization` and type, which the weights decide.
  GgufMetadata metadata;             ///< Of a GGUF file; without what the weights and the tokenizer decide.
  std::vector<float> rope_divisors;  ///< Of a GGUF file; empty when it needs none.
  std::vector<std::string> notes;
};

/// Throws kUnsupported saying what the target's configuration cannot express.
TargetConfig make_target_config(const CheckpointDir& source, const ModelDescription& description, ModelFormat format);

/// The config.json that a GGUF file of this program carries; null when there is none.
Json carried_config(const GgufFile& file);

/// `torch_dtype` or `dtype` of a config as a float type.
std::optional<DType> declared_dtype(const Json& config);

}  // namespace mobilellm
