// Shared reading of config.json and GGUF metadata.
#include "model/arch/config_keys.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/error.h"
#include "base/log.h"
#include "model/arch/rope.h"

namespace mobilellm {
namespace {

/// Keys that describe files, training, other programs or generation, and change nothing in the forward pass.
constexpr std::array kHarmlessKeys = {
    "_attn_implementation",
    "_attn_implementation_autoset",
    "_attn_implementation_internal",
    "_commit_hash",
    "_flash_attn_2_enabled",
    "_name_or_path",
    "architectures",
    "attention_dropout",
    "attention_probs_dropout_prob",
    "attn_implementation",
    "auto_map",
    "begin_suppress_tokens",
    "bos_token_id",
    "cache_implementation",
    "dtype",
    "eos_token_id",
    "embd_pdrop",
    "for_llm_compressor",
    "hidden_dropout",
    "initializer_range",
    "intermediate_size_moe",
    "is_llama_config",
    "max_window_layers",
    "mlp_dropout",
    "model_type",
    "output_attentions",
    "output_hidden_states",
    "output_router_logits",
    "pad_token_id",
    "pretraining_tp",
    "quantization",
    "quantization_config",
    "resid_pdrop",
    "return_dict",
    "router_aux_loss_coef",
    "router_jitter_noise",
    "torch_dtype",
    "transformers.js_config",
    "transformers_version",
    "unsloth_fixed",
    "use_cache",
    "use_flash_attention",
    "use_flash_attn",
};

/// Parts of names that say "this changes the result".
constexpr std::array kMathsWords = {
    "scale", "scaling",   "softcap",    "rope",       "rotary", "norm",  "window",     "bias",        "expert",   "moe",
    "attn",  "attention", "activation", "hidden_act", "clip",   "alibi", "multiplier", "layer_types", "residual",
};

bool is_harmless(std::string_view key) {
  return std::find(kHarmlessKeys.begin(), kHarmlessKeys.end(), key) != kHarmlessKeys.end();
}

bool changes_maths(std::string_view key) {
  return std::any_of(kMathsWords.begin(), kMathsWords.end(),
                     [&](const char* word) { return key.find(word) != std::string_view::npos; });
}

int checked_int(int64_t value) { return static_cast<int>(value); }

Activation read_activation(JsonObjectReader& config, const char* key) {
  const bool is_gemma_key = std::string_view(key) == "hidden_activation";
  const std::string name = config.get_string(key, is_gemma_key ? "gelu_pytorch_tanh" : "silu");
  if (name == "silu" || name == "swish") return Activation::kSilu;
  if (name == "gelu_pytorch_tanh") return Activation::kGeluTanh;
  fail(ErrorCode::kUnsupported, "[config] {}: {}: got \"{}\", expected silu or gelu_pytorch_tanh", config.origin(), key,
       name);
}

bool has_output_head(const TensorShapes& tensors) {
  for (const char* name : {"lm_head.weight", "model.lm_head.weight", "output.weight", "model.output.weight"}) {
    if (tensors.contains(name)) return true;
  }
  return false;
}

}  // namespace

std::vector<int64_t> read_token_ids(JsonObjectReader& config, std::string_view key) {
  const Json* value = config.find(key);
  if (value == nullptr) return {};
  const auto check = [&](const Json& id) {
    if (!id.is_int() || id.as_int() < -1 || id.as_int() > kMaxVocab) {
      config.fail_key(key, fmt::format("got {}, expected a token id or a list of token ids", id.dump()));
    }
    return id.as_int();
  };
  std::vector<int64_t> ids;
  if (!value->is_array()) {
    ids.push_back(check(*value));
  } else {
    if (value->as_array().size() > 1024) config.fail_key(key, "has more than 1024 entries");
    for (const Json& id : value->as_array()) ids.push_back(check(id));
  }
  std::erase(ids, -1);  // "No such token" in some configs.
  return ids;
}

ModelSpec read_base_config(JsonObjectReader& config, const ConfigDefaults& defaults, const TensorShapes& tensors) {
  ModelSpec spec;
  spec.d_model = checked_int(config.get_int("hidden_size", 1, kMaxDModel));
  spec.vocab_size = checked_int(config.get_int("vocab_size", 1, kMaxVocab));
  const int64_t n_layers = config.get_int("num_hidden_layers", 1, kMaxLayers);
  spec.max_context = config.get_int("max_position_embeddings", 1, kMaxContext, 2048);
  spec.norm_eps = static_cast<float>(config.get_number("rms_norm_eps", 1e-12, 1, defaults.norm_eps));

  LayerSpec layer;
  layer.n_heads = checked_int(config.get_int("num_attention_heads", 1, kMaxHeads));
  layer.n_kv_heads = checked_int(config.get_int("num_key_value_heads", 1, kMaxHeads, layer.n_heads));
  if (layer.n_heads % layer.n_kv_heads != 0) {
    config.fail_key("num_key_value_heads", fmt::format("got {}, expected a divisor of num_attention_heads ({})",
                                                       layer.n_kv_heads, layer.n_heads));
  }
  if (config.has("head_dim") || defaults.head_dim != 0) {
    layer.head_dim = checked_int(config.get_int("head_dim", 2, kMaxHeadDim, defaults.head_dim));
  } else {
    config.ignore("head_dim");
    if (spec.d_model % layer.n_heads != 0) {
      config.fail_key("num_attention_heads", fmt::format("got {}, expected a divisor of hidden_size ({}), as there is "
                                                         "no head_dim",
                                                         layer.n_heads, spec.d_model));
    }
    layer.head_dim = spec.d_model / layer.n_heads;
  }
  if (layer.head_dim % 2 != 0 || layer.head_dim > kMaxHeadDim) {
    config.fail_key("head_dim", fmt::format("got {}, expected an even number up to {}", layer.head_dim, kMaxHeadDim));
  }
  layer.d_ff = checked_int(config.get_int("intermediate_size", 1, kMaxDff));
  layer.activation = read_activation(config, defaults.activation_key);
  const bool has_attention_bias = config.get_bool("attention_bias", false);
  layer.has_qkv_bias = has_attention_bias;
  layer.has_o_bias = has_attention_bias;
  layer.has_mlp_bias = config.get_bool("mlp_bias", false);
  layer.score_scale = static_cast<float>(1.0 / std::sqrt(layer.head_dim));
  spec.layers.assign(static_cast<size_t>(n_layers), layer);

  // Without the key the classes' defaults differ, and the tensors tell what was meant.
  spec.is_output_tied = config.get_bool("tie_word_embeddings", !has_output_head(tensors));
  if (config.get_number("partial_rotary_factor", 0, 1, 1) != 1) {
    config.fail_key("partial_rotary_factor", "only 1 (all of a head is rotated) is supported");
  }
  if (config.get_bool("rope_interleaved", false)) {
    config.fail_key("rope_interleaved", "got true, only false is supported");
  }
  const std::vector<int64_t> bos = read_token_ids(config, "bos_token_id");
  if (!bos.empty()) spec.bos_id = bos.front();
  spec.eos_ids = read_token_ids(config, "eos_token_id");
  return spec;
}

ModelSpec read_base_gguf(JsonObjectReader& metadata, const std::string& arch, const TensorShapes& tensors,
                         const std::vector<float>& rope_divisors) {
  const auto key = [&](std::string_view name) { return arch + "." + std::string(name); };
  ModelSpec spec;
  spec.d_model = checked_int(metadata.get_int(key("embedding_length"), 1, kMaxDModel));
  const int64_t n_layers = metadata.get_int(key("block_count"), 1, kMaxLayers);
  spec.max_context = metadata.get_int(key("context_length"), 1, kMaxContext, 2048);
  spec.norm_eps = static_cast<float>(metadata.get_number(key("attention.layer_norm_rms_epsilon"), 1e-12, 1, 1e-6));

  // The key is optional and may lag behind padded tables; the embedding decides.
  const auto embedding = tensors.find("token_embd.weight");
  const int64_t declared_vocab = metadata.get_int(key("vocab_size"), 1, kMaxVocab, 0);
  if (embedding != tensors.end() && embedding->second.size() == 2) {
    if (embedding->second[0] < 1 || embedding->second[0] > kMaxVocab) {
      fail(ErrorCode::kCorruptData, "[config] {}: tensor 'token_embd.weight' has {} rows, expected 1 to {}",
           metadata.origin(), embedding->second[0], kMaxVocab);
    }
    spec.vocab_size = checked_int(embedding->second[0]);
  } else if (declared_vocab > 0) {
    spec.vocab_size = checked_int(declared_vocab);
  } else {
    fail(ErrorCode::kCorruptData, "[config] {}: tensor 'token_embd.weight' is missing and {} is not set",
         metadata.origin(), key("vocab_size"));
  }

  LayerSpec layer;
  layer.n_heads = checked_int(metadata.get_int(key("attention.head_count"), 1, kMaxHeads));
  layer.n_kv_heads = checked_int(metadata.get_int(key("attention.head_count_kv"), 1, kMaxHeads, layer.n_heads));
  if (layer.n_heads % layer.n_kv_heads != 0) {
    metadata.fail_key(key("attention.head_count_kv"),
                      fmt::format("got {}, expected a divisor of head_count ({})", layer.n_kv_heads, layer.n_heads));
  }
  if (!metadata.has(key("attention.key_length")) && spec.d_model % layer.n_heads != 0) {
    metadata.fail_key(key("attention.head_count"),
                      fmt::format("got {}, expected a divisor of embedding_length ({}), as there is no key_length",
                                  layer.n_heads, spec.d_model));
  }
  layer.head_dim =
      checked_int(metadata.get_int(key("attention.key_length"), 2, kMaxHeadDim, spec.d_model / layer.n_heads));
  if (layer.head_dim % 2 != 0 || layer.head_dim > kMaxHeadDim) {
    metadata.fail_key(key("attention.key_length"),
                      fmt::format("got {}, expected an even number up to {}", layer.head_dim, kMaxHeadDim));
  }
  for (const char* name : {"attention.value_length", "rope.dimension_count"}) {
    const int64_t value = metadata.get_int(key(name), 1, kMaxHeadDim, layer.head_dim);
    if (value != layer.head_dim) {
      metadata.fail_key(key(name), fmt::format("got {}, only the head size ({}) is supported", value, layer.head_dim));
    }
  }
  layer.d_ff = checked_int(metadata.get_int(key("feed_forward_length"), 1, kMaxDff));
  layer.has_qkv_bias = tensors.contains("blk.0.attn_q.bias");
  layer.has_o_bias = tensors.contains("blk.0.attn_output.bias");
  layer.has_mlp_bias = tensors.contains("blk.0.ffn_down.bias");
  layer.score_scale = static_cast<float>(1.0 / std::sqrt(layer.head_dim));
  spec.layers.assign(static_cast<size_t>(n_layers), layer);
  spec.is_output_tied = !tensors.contains("output.weight");
  spec.bos_id = metadata.get_int("tokenizer.ggml.bos_token_id", 0, int64_t{0xFFFFFFFF}, -1);
  for (const char* name :
       {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"}) {
    const int64_t id = metadata.get_int(name, 0, int64_t{0xFFFFFFFF}, -1);
    if (id >= 0 && std::find(spec.eos_ids.begin(), spec.eos_ids.end(), id) == spec.eos_ids.end()) {
      spec.eos_ids.push_back(id);
    }
  }

  const double theta = metadata.get_number(key("rope.freq_base"), kMinRopeTheta, kMaxRopeTheta, 10000);
  RopeTable table = make_rope_table(theta, layer.head_dim);
  const double old_factor = metadata.get_number(key("rope.scale_linear"), 1, 1e6, 1);
  const std::string scaling = metadata.get_string(key("rope.scaling.type"), old_factor != 1 ? "linear" : "none");
  const double factor = metadata.get_number(key("rope.scaling.factor"), 0, 1e6, old_factor);
  const int64_t original =
      metadata.get_int(key("rope.scaling.original_context_length"), 0, kMaxContext, spec.max_context);
  metadata.ignore(key("rope.scaling.finetuned"));
  if (scaling == "linear" || scaling == "yarn") {
    // Zero means "not scaled" to the writers of these files.
    if (factor > 0 && factor < 1) metadata.fail_key(key("rope.scaling.factor"), "expected 0 or a number from 1 up");
  }
  if (scaling == "linear") {
    if (factor > 1) scale_rope_linear(table, factor);
  } else if (scaling == "yarn") {
    if (original < 1) metadata.fail_key(key("rope.scaling.original_context_length"), "expected at least 1");
    RopeScaling yarn;
    yarn.factor = std::max(factor, 1.0);
    yarn.original_context = static_cast<double>(original);
    yarn.beta_fast = metadata.get_number(key("rope.scaling.yarn_beta_fast"), 1e-3, 1e6, yarn.beta_fast);
    yarn.beta_slow = metadata.get_number(key("rope.scaling.yarn_beta_slow"), 1e-3, 1e6, yarn.beta_slow);
    scale_rope_yarn(table, yarn);
    table.attention_factor *= static_cast<float>(metadata.get_number(key("rope.scaling.attn_factor"), 1e-6, 1e6, 1));
    table.recipe.attention_factor = static_cast<double>(table.attention_factor);
  } else if (scaling != "none") {
    fail(ErrorCode::kUnsupported, "[config] {}: {}: got \"{}\", expected none, linear or yarn", metadata.origin(),
         key("rope.scaling.type"), scaling);
  }
  if (!rope_divisors.empty()) {
    if (rope_divisors.size() != table.inv_freq.size()) {
      fail(ErrorCode::kCorruptData, "[config] {}: tensor 'rope_freqs.weight' has {} values, expected {}",
           metadata.origin(), rope_divisors.size(), table.inv_freq.size());
    }
    if (!std::all_of(rope_divisors.begin(), rope_divisors.end(),
                     [](float divisor) { return std::isfinite(divisor) && divisor > 0; })) {
      fail(ErrorCode::kCorruptData, "[config] {}: tensor 'rope_freqs.weight' holds a value that is not positive",
           metadata.origin());
    }
    divide_rope(table, rope_divisors);
  }
  spec.rope_tables.push_back(std::move(table));

  if (metadata.get_int(key("expert_count"), 0, kMaxDff, 0) > 0) {
    fail(ErrorCode::kUnsupported, "[config] {}: {}: mixture-of-experts models are not supported", metadata.origin(),
         key("expert_count"));
  }
  metadata.ignore(key("expert_used_count"));
  if (!metadata.get_bool(key("attention.causal"), true)) {
    fail(ErrorCode::kUnsupported, "[config] {}: {}: got false, expected true", metadata.origin(),
         key("attention.causal"));
  }
  return spec;
}

std::vector<AttentionWindow> read_layer_types(JsonObjectReader& config, int n_layers, int64_t sliding_window,
                                              int64_t chunk_size) {
  const Json* types = config.find("layer_types");
  if (types == nullptr) return {};
  if (!types->is_array()) config.fail_key("layer_types", fmt::format("got {}, expected a list", types->type_name()));
  if (types->as_array().size() < static_cast<size_t>(n_layers)) {
    config.fail_key("layer_types", fmt::format("has {} entries, expected one for each of {} layers",
                                               types->as_array().size(), n_layers));
  }
  std::vector<AttentionWindow> windows;
  for (int i = 0; i < n_layers; ++i) {
    const Json& type = types->as_array()[static_cast<size_t>(i)];
    const std::string_view name = type.is_string() ? std::string_view(type.as_string()) : std::string_view();
    if (name == "full_attention") {
      windows.push_back({});
    } else if (name == "sliding_attention" && sliding_window > 0) {
      windows.push_back({AttentionWindow::Kind::kSliding, sliding_window});
    } else if (name == "chunked_attention" && chunk_size > 0) {
      windows.push_back({AttentionWindow::Kind::kChunked, chunk_size});
    } else {
      config.fail_key("layer_types", fmt::format("entry {}: got {}, expected full_attention{}{}", i, type.dump(),
                                                 sliding_window > 0 ? " or sliding_attention" : "",
                                                 chunk_size > 0 ? " or chunked_attention" : ""));
    }
  }
  return windows;
}

void refuse_unknown_keys(const JsonObjectReader& config, const Json& object) {
  for (const std::string& key : config.unread_keys()) {
    if (is_harmless(key)) continue;
    const Json* value = object.find(key);
    const bool is_off = value == nullptr || value->is_null() || (value->is_bool() && !value->as_bool());
    if (changes_maths(key) && !is_off) {
      fail(
          ErrorCode::kUnsupported,
          "[config] {}: {}: this key is not known for the model's family, and its name says that it changes the result",
          config.origin(), key);
    }
    log_debug("[config] {}: {}: unknown key ignored", config.origin(), key);
  }
}

}  // namespace mobilellm
