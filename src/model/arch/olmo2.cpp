// OLMo-2: norms on the outputs of attention and MLP, q/k norm over the whole projection.
#include "base/error.h"
#include "model/arch/config_writer.h"
#include "model/arch/registry.h"
#include "model/arch/rope.h"

namespace mobilellm {
namespace {

void set_blocks(ModelSpec& spec) {
  for (LayerSpec& layer : spec.layers) {
    layer.norm_placement = NormPlacement::kPost;
    layer.qk_norm = QkNorm::kFullWidth;
  }
}

ModelSpec from_config(JsonObjectReader& config, const TensorShapes& tensors) {
  ModelSpec spec = read_base_config(config, {.norm_eps = 1e-5}, tensors);
  set_blocks(spec);
  spec.rope_tables.push_back(read_rope(config, 10000, spec.layers[0].head_dim, spec.max_context));
  return spec;
}

ModelSpec from_gguf(JsonObjectReader& metadata, const TensorShapes& tensors, const std::vector<float>& rope_divisors) {
  ModelSpec spec = read_base_gguf(metadata, "olmo2", tensors, rope_divisors);
  set_blocks(spec);
  return spec;
}

Json to_config(const ModelSpec& spec) {
  Json config = write_base_config(spec);
  return config;
}

void to_gguf(const ModelSpec& spec, GgufMetadata& metadata) { write_base_gguf(spec, "olmo2", metadata); }

}  // namespace

extern const Architecture kOlmo2;
const Architecture kOlmo2 = {"olmo2",     "Olmo2ForCausalLM", "olmo2",   NormTransform::kNone,
                             from_config, from_gguf,          to_config, to_gguf};

}  // namespace mobilellm
