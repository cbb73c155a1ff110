// Qwen2 and Qwen2.5 (DeepSeek-R1-Distill-Qwen, OpenReasoning-Nemotron): biases on q, k and v only.
#include "model/arch/config_writer.h"
#include "model/arch/qwen_window.h"
#include "model/arch/registry.h"
#include "model/arch/rope.h"

namespace mobilellm {
namespace {

ModelSpec from_config(JsonObjectReader& config, const TensorShapes& tensors) {
  ModelSpec spec = read_base_config(config, {}, tensors);
  // The class has these biases fixed; the key does not exist for it.
  for (LayerSpec& layer : spec.layers) {
    layer.has_qkv_bias = true;
    layer.has_o_bias = false;
  }
  read_qwen_windows(config, spec);
  spec.rope_tables.push_back(read_rope(config, 10000, spec.layers[0].head_dim, spec.max_context));
  return spec;
}

ModelSpec from_gguf(JsonObjectReader& metadata, const TensorShapes& tensors, const std::vector<float>& rope_divisors) {
  return read_base_gguf(metadata, "qwen2", tensors, rope_divisors);
}

Json to_config(const ModelSpec& spec) {
  Json config = write_base_config(spec);
  config.set("use_sliding_window", false);
  return config;
}

void to_gguf(const ModelSpec& spec, GgufMetadata& metadata) { write_base_gguf(spec, "qwen2", metadata); }

}  // namespace

extern const Architecture kQwen2;
const Architecture kQwen2 = {"qwen2",     "Qwen2ForCausalLM", "qwen2",   NormTransform::kNone,
                             from_config, from_gguf,          to_config, to_gguf};

}  // namespace mobilellm
