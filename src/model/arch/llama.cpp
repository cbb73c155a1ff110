// Llama (SmolLM2, Llama-3.2): pre-norm, half-split RoPE with Llama-3 scaling, optional biases.
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

}  // namespace

extern const Architecture kLlama;
const Architecture kLlama = {"llama", "LlamaForCausalLM", "llama", NormTransform::kNone, from_config, from_gguf};

}  // namespace mobilellm
