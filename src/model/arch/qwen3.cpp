// Qwen3 (dense): per-head norms on q and k before RoPE.
#include "model/arch/config_writer.h"
#include "model/arch/qwen_window.h"
#include "model/arch/registry.h"
#include "model/arch/rope.h"

namespace mobilellm {
namespace {

ModelSpec from_config(JsonObjectReader& config, const TensorShapes& tensors) {
  ModelSpec spec = read_base_config(config, {.head_dim = 128}, tensors);
  for (LayerSpec& layer : spec.layers) layer.qk_norm = QkNorm::kPerHead;
  read_qwen_windows(config, spec);
  spec.rope_tables.push_back(read_rope(config, 10000, spec.layers[0].head_dim, spec.max_context));
  return spec;
}

ModelSpec from_gguf(JsonObjectReader& metadata, const TensorShapes& tensors, const std::vector<float>& rope_divisors) {
  ModelSpec spec = read_base_gguf(metadata, "qwen3", tensors, rope_divisors);
  for (LayerSpec& layer : spec.layers) layer.qk_norm = QkNorm::kPerHead;
  return spec;
}

Json to_config(const ModelSpec& spec) {
  Json config = write_base_config(spec);
  config.set("attention_bias", spec.layers[0].has_qkv_bias).set("use_sliding_window", false);
  return config;
}

void to_gguf(const ModelSpec& spec, GgufMetadata& metadata) { write_base_gguf(spec, "qwen3", metadata); }

}  // namespace

extern const Architecture kQwen3;
const Architecture kQwen3 = {"qwen3",     "Qwen3ForCausalLM", "qwen3",   NormTransform::kNone,
                             from_config, from_gguf,          to_config, to_gguf};

}  // namespace mobilellm
