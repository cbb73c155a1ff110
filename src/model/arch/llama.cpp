// Llama (SmolLM2, Llama-3.2): pre-norm, half-split RoPE with Llama-3 scaling, optional biases.
#include "model/arch/config_writer.h"
#include "model/arch/registry.h"
#include "model/arch/rope.h"

namespace mobilellm {
namespace {

ModelSpec from_config(JsonObjectReader& config, const TensorShapes& tensors) {
  ModelSpec spec = read_base_config(config, {}, tensors);
  spec.rope_tables.push_back(read_rope(config, 10000, spec.layers[0].head_dim, spec.max_context));
  return spec;
}

ModelSpec from_gguf(JsonObjectReader& metadata, const TensorShapes& tensors, const std::vector<float>& rope_divisors) {
  ModelSpec spec = read_base_gguf(metadata, "llama", tensors, rope_divisors);
  // The converter reorders the rows of q and k from half-split pairs to neighbouring ones; rotating those pairs gives
  // the same scores.
  for (LayerSpec& layer : spec.layers) layer.rope_style = RopeStyle::kInterleaved;
  return spec;
}

Json to_config(const ModelSpec& spec) {
  Json config = write_base_config(spec);
  config.set("attention_bias", spec.layers[0].has_qkv_bias).set("mlp_bias", spec.layers[0].has_mlp_bias);
  return config;
}

void to_gguf(const ModelSpec& spec, GgufMetadata& metadata) { write_base_gguf(spec, "llama", metadata); }

}  // namespace

extern const Architecture kLlama;
const Architecture kLlama = {"llama",     "LlamaForCausalLM", "llama",   NormTransform::kNone,
                             from_config, from_gguf,          to_config, to_gguf};

}  // namespace mobilellm
