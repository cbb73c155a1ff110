// The sizes of each shape, completed to a config.json and read as such.
#include "model/arch/shapes.h"

#include "base/error.h"

namespace mobilellm {
namespace {

struct Shape {
  const char* name;
  const char* model_type;
  int n_layers, d_model, n_heads, n_kv_heads, head_dim, d_ff, vocab_size;
};

constexpr Shape kShapes[] = {
    {"tiny", "llama4_text", 2, 128, 4, 2, 32, 256, 512},
    {"135m", "llama", 30, 576, 9, 3, 64, 1536, 49152},
    {"140m", "llama4_text", 15, 576, 9, 3, 64, 2048, 128256},
    {"360m", "llama4_text", 15, 1024, 16, 4, 64, 4096, 128256},
    {"950m", "llama4_text", 22, 1536, 24, 6, 64, 6144, 128256},
};

// Longer than any sweep, so that no window hides positions from it.
constexpr int kContext = 131072;

Json config_of(const Shape& shape) {
  Json config = Json::object();
  config.set("model_type", shape.model_type)
      .set("num_hidden_layers", shape.n_layers)
      .set("hidden_size", shape.d_model)
      .set("num_attention_heads", shape.n_heads)
      .set("num_key_value_heads", shape.n_kv_heads)
      .set("head_dim", shape.head_dim)
      .set("intermediate_size", shape.d_ff)
      .set("vocab_size", shape.vocab_size)
      .set("max_position_embeddings", kContext)
      .set("rms_norm_eps", 1e-5)
      .set("tie_word_embeddings", true);
  if (std::string_view(shape.model_type) == "llama") return config.set("rope_theta", 100000.0);
  // As MobileLLM-R1 has them: every layer rotates, norms queries and keys, and sees everything.
  Json rotates = Json::array();
  for (int i = 0; i < shape.n_layers; ++i) rotates.push(1);
  return config.set("intermediate_size_mlp", shape.d_ff)
      .set("rope_theta", 8000000.0)
      .set("use_qk_norm", true)
      .set("attn_temperature_tuning", false)
      .set("attention_chunk_size", kContext)
      .set("no_rope_layers", std::move(rotates))
      .set("interleave_moe_layer_step", 0)
      .set("num_local_experts", 0);
}

}  // namespace

std::vector<std::string> shape_names() {
  std::vector<std::string> names;
  for (const Shape& shape : kShapes) names.emplace_back(shape.name);
  return names;
}

ModelDescription describe_shape(std::string_view name) {
  std::string known;
  for (const Shape& shape : kShapes) {
    if (name == shape.name) return describe_config(config_of(shape), "shape " + std::string(name), {}, false);
    known += (known.empty() ? "" : ", ") + std::string(shape.name);
  }
  fail(ErrorCode::kInvalidArgument, "[model] unknown shape '{}'; there are {}", name, known);
}

}  // namespace mobilellm
