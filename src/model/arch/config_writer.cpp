// Shared writing of config.json and GGUF metadata.
#include "model/arch/config_writer.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>

#include "base/error.h"
#include "model/arch/rope.h"

namespace mobilellm {
namespace {

Json write_rope_scaling(const RopeTable& table) {
  const RopeScaling& recipe = table.recipe;
  Json object = Json::object();
  switch (recipe.kind) {
    case RopeScaling::Kind::kNone:
      return nullptr;
    case RopeScaling::Kind::kLinear:
      return object.set("rope_type", "linear").set("factor", recipe.factor);
    case RopeScaling::Kind::kLlama3:
      return object.set("rope_type", "llama3")
          .set("factor", recipe.factor)
          .set("low_freq_factor", recipe.low_freq_factor)
          .set("high_freq_factor", recipe.high_freq_factor)
          .set("original_max_position_embeddings", static_cast<int64_t>(recipe.original_context));
    case RopeScaling::Kind::kYarn:
      object.set("rope_type", "yarn")
          .set("factor", recipe.factor)
          .set("original_max_position_embeddings", static_cast<int64_t>(recipe.original_context))
          .set("beta_fast", recipe.beta_fast)
          .set("beta_slow", recipe.beta_slow);
      if (recipe.attention_factor) object.set("attention_factor", *recipe.attention_factor);
      if (recipe.mscale != 0) object.set("mscale", recipe.mscale);
      if (recipe.mscale_all_dim != 0) object.set("mscale_all_dim", recipe.mscale_all_dim);
      if (!recipe.is_truncated) object.set("truncate", false);
      return object;
    case RopeScaling::Kind::kUnknown:
      break;
  }
  fail(ErrorCode::kUnsupported,
       "[config] the RoPE divisors of the model (rope_freqs.weight) are none that a config.json can describe");
}

}  // namespace

Json json_number(float value) {
  char text[64];
  const auto [end, code] = std::to_chars(text, text + sizeof(text) - 1, value);
  MOBILELLM_CHECK(code == std::errc());
  *end = '\0';
  return std::strtod(text, nullptr);
}

Json write_base_config(const ModelSpec& spec) {
  const LayerSpec& layer = spec.layers[0];
  Json config = Json::object();
  config.set("vocab_size", spec.vocab_size)
      .set("hidden_size", spec.d_model)
      .set("intermediate_size", layer.d_ff)
      .set("num_hidden_layers", spec.n_layers())
      .set("num_attention_heads", layer.n_heads)
      .set("num_key_value_heads", layer.n_kv_heads)
      .set("head_dim", layer.head_dim)
      .set("hidden_act", layer.activation == Activation::kSilu ? "silu" : "gelu_pytorch_tanh")
      .set("max_position_embeddings", spec.max_context)
      .set("rms_norm_eps", json_number(spec.norm_eps))
      .set("attention_dropout", 0.0)
      .set("initializer_range", 0.02)
      .set("use_cache", true)
      .set("tie_word_embeddings", spec.is_output_tied)
      .set("rope_theta", spec.rope_tables[0].theta)
      .set("rope_scaling", write_rope_scaling(spec.rope_tables[0]));
  if (spec.bos_id >= 0) config.set("bos_token_id", spec.bos_id);
  if (spec.eos_ids.size() == 1) config.set("eos_token_id", spec.eos_ids[0]);
  if (spec.eos_ids.size() > 1) {
    Json ids = Json::array();
    for (const int64_t id : spec.eos_ids) ids.push(id);
    config.set("eos_token_id", std::move(ids));
  }
  return config;
}

void write_base_gguf(const ModelSpec& spec, const std::string& arch, GgufMetadata& metadata) {
  const LayerSpec& layer = spec.layers[0];
  const auto set_int = [&](const char* key, int64_t value) {
    metadata.set(arch + "." + key, static_cast<uint32_t>(value));
  };
  const auto set_number = [&](const char* key, double value) {
    metadata.set(arch + "." + key, static_cast<float>(value));
  };
  set_int("block_count", spec.n_layers());
  set_int("context_length", spec.max_context);
  set_int("embedding_length", spec.d_model);
  set_int("feed_forward_length", layer.d_ff);
  set_int("attention.head_count", layer.n_heads);
  set_int("attention.head_count_kv", layer.n_kv_heads);
  set_int("attention.key_length", layer.head_dim);
  set_int("attention.value_length", layer.head_dim);
  metadata.set(arch + ".attention.layer_norm_rms_epsilon", spec.norm_eps);
  set_int("vocab_size", spec.vocab_size);
  set_int("rope.dimension_count", layer.head_dim);
  const RopeTable& table = spec.rope_tables[0];
  set_number("rope.freq_base", table.theta);
  if (table.recipe.kind == RopeScaling::Kind::kLinear) {
    metadata.set(arch + ".rope.scaling.type", std::string("linear"));
    set_number("rope.scaling.factor", table.recipe.factor);
  }
  if (table.recipe.kind == RopeScaling::Kind::kYarn) {
    metadata.set(arch + ".rope.scaling.type", std::string("yarn"));
    set_number("rope.scaling.factor", table.recipe.factor);
    set_int("rope.scaling.original_context_length", static_cast<int64_t>(table.recipe.original_context));
    set_number("rope.scaling.yarn_beta_fast", table.recipe.beta_fast);
    set_number("rope.scaling.yarn_beta_slow", table.recipe.beta_slow);
    // Readers multiply what they compute from the factor themselves.
    const double usual = table.recipe.factor <= 1 ? 1.0 : 0.1 * std::log(table.recipe.factor) + 1.0;
    const double rest = static_cast<double>(table.attention_factor) / usual;
    if (std::abs(rest - 1) > 1e-6) set_number("rope.scaling.attn_factor", rest);
  }
}

}  // namespace mobilellm
