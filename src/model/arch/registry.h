/// The model families, and the way from a checkpoint's configuration to a spec.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "formats/gguf_writer.h"
#include "model/arch/config_keys.h"
#include "model/spec.h"

namespace mobilellm {

/// Who named the tensors.
enum class NameScheme : uint8_t {
  kHuggingFace,  ///< Read with every name that MLX programs have given tensors.
  kMlx,          ///< The same, but the names of mlx-lm come first, for writing.
  kGguf,
};

enum class NormTransform : uint8_t {
  kNone,
  kAddOne,  ///< The file stores w of a norm that multiplies by 1 + w.
};

struct Architecture;

/// A spec, and what binding the checkpoint's tensors needs besides it.
struct ModelDescription {
  ModelSpec spec;
  NameScheme names = NameScheme::kHuggingFace;
  NormTransform norm_transform = NormTransform::kNone;
  const Architecture* architecture = nullptr;  ///< Set by describe_config() and describe_gguf().
};

/// One family: a config becomes a spec. Adding a family is one file with one of these and a line in registry.cpp.
struct Architecture {
  const char* model_type;     ///< `model_type` of config.json; also the display name.
  const char* class_name;     ///< `architectures` of config.json.
  const char* gguf_name;      ///< `general.architecture` of GGUF.
  NormTransform norm_weight;  ///< Of Hugging Face files; GGUF writers fold it in.

  ModelSpec (*from_config)(JsonObjectReader& config, const TensorShapes& tensors);
  ModelSpec (*from_gguf)(JsonObjectReader& metadata, const TensorShapes& tensors,
                         const std::vector<float>& rope_divisors);
  /// The inverses: config.json of the Hugging Face class, and the keys of `gguf_name`. They write what the file can
  /// say; whether that is all of the spec, the caller finds by reading it back and comparing.
  Json (*to_config)(const ModelSpec& spec);
  void (*to_gguf)(const ModelSpec& spec, GgufMetadata& metadata);

  /// What other programs do not do that this model needs, as a sentence; "" when nothing. May be null.
  std::string (*mlx_limits)(const ModelSpec& spec) = nullptr;   ///< mlx-lm
  std::string (*gguf_limits)(const ModelSpec& spec) = nullptr;  ///< llama.cpp
  const char* mlp_module = "mlp";       ///< Of Hugging Face names: layers.N.<mlp_module>.gate_proj
  const char* mlx_lm_head = "lm_head";  ///< Of an untied output in mlx-lm.
};

std::span<const Architecture* const> all_architectures();

/// From config.json. `origin`: the file's path. Throws kUnsupported for an unknown model_type (listing the known ones)
/// or an unknown key that changes the maths, kCorruptData naming the key for wrong values.
/// `is_mlx`: written by mlx-lm, whose Gemma rounds its embedding scale to bf16 whatever the weights' type is.
ModelDescription describe_config(const Json& config, const std::string& origin, const TensorShapes& tensors,
                                 bool is_mlx);

/// From GGUF metadata as one flat object ("llama.block_count": 30). `rope_divisors`: values of rope_freqs.weight, or
/// empty.
ModelDescription describe_gguf(const Json& metadata, const std::string& origin, const TensorShapes& tensors,
                               const std::vector<float>& rope_divisors);

/// Values of rope_freqs.weight that make a GGUF reader rotate as this table says.
std::vector<float> rope_divisors(const RopeTable& table);

}  // namespace mobilellm
