// Llama-4 text, dense: MobileLLM-R1 and its dual-branch variant. Interleaved RoPE, weightless q/k norm, chunks.
#include <algorithm>

#include "base/error.h"
#include "model/arch/config_writer.h"
#include "model/arch/registry.h"
#include "model/arch/rope.h"

namespace mobilellm {
namespace {

constexpr int64_t kDefaultChunk = 8192;
constexpr int64_t kDefaultNoRopeInterval = 4;
constexpr int64_t kDefaultExperts = 16;

/// First tensor name that contains `part`, or nullptr.
const std::string* find_name_part(const TensorShapes& tensors, std::string_view part) {
  const auto found = std::find_if(tensors.begin(), tensors.end(),
                                  [&](const auto& entry) { return entry.first.find(part) != std::string::npos; });
  return found == tensors.end() ? nullptr : &found->first;
}

/// MobileLLM's own rule: any of these keys makes every layer dual-branch.
const std::string* find_dual_branch_name(const TensorShapes& tensors) {
  for (const char* part :
       {".feed_forward.g_up.weight", ".mlp.g_up.weight", ".feed_forward.p_up.weight", ".mlp.p_up.weight"}) {
    const std::string* name = find_name_part(tensors, part);
    if (name != nullptr) return name;
  }
  return nullptr;
}

void set_mlp(JsonObjectReader& config, const TensorShapes& tensors, ModelSpec& spec) {
  const int gated_width = spec.layers[0].d_ff;
  const int plain_width = static_cast<int>(config.get_int("intermediate_size_mlp", 1, kMaxDff, gated_width));
  const std::string* dual_name = find_dual_branch_name(tensors);
  for (LayerSpec& layer : spec.layers) {
    if (dual_name != nullptr) {
      layer.mlp = MlpKind::kDualBranch;
      layer.d_ff_plain = plain_width;
    } else {
      // A plain SwiGLU takes this width; intermediate_size is that of experts, which a dense model lacks.
      layer.d_ff = plain_width;
    }
  }
  if (dual_name != nullptr) {
    spec.mlp_reason = "dual-branch: the checkpoint has " + *dual_name;
  } else {
    spec.mlp_reason = "SwiGLU: no tensor is named g_up or p_up";
  }
}

/// True for a flag that old configs write as an integer.
bool read_flag(JsonObjectReader& config, const char* key, bool default_value) {
  const Json* value = config.find(key);
  if (value != nullptr && value->is_int()) return value->as_int() != 0;
  return config.get_bool(key, default_value);
}

void refuse_experts(JsonObjectReader& config, const TensorShapes& tensors, int n_layers) {
  const bool has_expert_tensors = find_name_part(tensors, ".feed_forward.experts.") != nullptr;
  const int64_t n_experts = config.get_int("num_local_experts", 0, kMaxDff, has_expert_tensors ? kDefaultExperts : 0);
  const int64_t step = config.get_int("interleave_moe_layer_step", 0, kMaxLayers, 1);
  const Json* list = config.find("moe_layers");
  bool has_moe_layers = step > 0 && step <= n_layers;
  if (list != nullptr) {
    if (!list->is_array()) config.fail_key("moe_layers", fmt::format("got {}, expected a list", list->type_name()));
    has_moe_layers = !list->as_array().empty();
  }
  config.ignore("num_experts_per_tok");
  if (n_experts > 0 && has_moe_layers) {
    fail(ErrorCode::kUnsupported, "[config] {}: num_local_experts: got {}, mixture-of-experts layers are not supported",
         config.origin(), n_experts);
  }
}

/// Whether each layer rotates. In the key `no_rope_layers`, 1 means that the layer USES RoPE.
std::vector<bool> read_rope_layers(JsonObjectReader& config, int n_layers) {
  std::vector<bool> uses_rope;
  const int64_t interval = config.get_int("no_rope_layer_interval", 1, kMaxLayers, kDefaultNoRopeInterval);
  const Json* list = config.find("no_rope_layers");
  if (list != nullptr && !list->is_array()) {
    config.fail_key("no_rope_layers", fmt::format("got {}, expected a list", list->type_name()));
  }
  if (list == nullptr || list->as_array().empty()) {
    for (int i = 0; i < n_layers; ++i) uses_rope.push_back((i + 1) % interval != 0);
    return uses_rope;
  }
  // Published configs have one list for all model sizes, so it may be longer.
  if (list->as_array().size() < static_cast<size_t>(n_layers)) {
    config.fail_key("no_rope_layers", fmt::format("has {} entries, expected one for each of {} layers",
                                                  list->as_array().size(), n_layers));
  }
  for (int i = 0; i < n_layers; ++i) {
    const Json& entry = list->as_array()[static_cast<size_t>(i)];
    if (!entry.is_int() || (entry.as_int() != 0 && entry.as_int() != 1)) {
      config.fail_key("no_rope_layers", fmt::format("entry {}: got {}, expected 0 or 1", i, entry.dump()));
    }
    uses_rope.push_back(entry.as_int() == 1);
  }
  return uses_rope;
}

ModelSpec from_config(JsonObjectReader& config, const TensorShapes& tensors) {
  ModelSpec spec = read_base_config(config, {.norm_eps = 1e-5, .head_dim = 128}, tensors);
  const int n_layers = spec.n_layers();
  refuse_experts(config, tensors, n_layers);
  set_mlp(config, tensors, spec);

  const bool use_qk_norm = config.get_bool("use_qk_norm", true);
  AttentionTemperature temperature;
  temperature.is_on = read_flag(config, "attn_temperature_tuning", true);
  temperature.floor_scale = config.get_number("floor_scale", 1, 1e12, temperature.floor_scale);
  temperature.attn_scale = config.get_number("attn_scale", -1e6, 1e6, temperature.attn_scale);

  // An absent key means the class's default, an explicit null no chunks.
  int64_t chunk = kDefaultChunk;
  if (config.contains("attention_chunk_size")) {
    chunk = config.get_int("attention_chunk_size", 1, kMaxContext, 0);
  }
  const std::vector<bool> uses_rope = read_rope_layers(config, n_layers);
  const std::vector<AttentionWindow> windows = read_layer_types(config, n_layers, 0, chunk);
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    LayerSpec& layer = spec.layers[i];
    layer.rope_style = uses_rope[i] ? RopeStyle::kInterleaved : RopeStyle::kNone;
    layer.qk_norm = uses_rope[i] && use_qk_norm ? QkNorm::kWeightless : QkNorm::kNone;
    if (!uses_rope[i]) layer.temperature = temperature;
    if (!windows.empty()) {
      layer.window = windows[i];
    } else if (uses_rope[i] && chunk > 0) {
      layer.window = {AttentionWindow::Kind::kChunked, chunk};
    }
  }
  spec.rope_tables.push_back(read_rope(config, 500000, spec.layers[0].head_dim, spec.max_context));
  return spec;
}

constexpr const char* kChunkKey = "llama4.attention.sliding_window";
constexpr const char* kChunkedLayersKey = "llama4.attention.sliding_window_pattern";
constexpr const char* kRopeLayersKey = "llama4.rope.layers";
constexpr const char* kQkNormKey = "llama4.attention.use_qk_norm";
constexpr const char* kTemperatureKey = "llama4.attention.temperature_scale";
constexpr const char* kTemperatureLengthKey = "llama4.attention.temperature_length";

/// One flag for each layer, or the given default where the key is absent.
std::vector<bool> read_layer_flags(JsonObjectReader& metadata, const char* key, std::vector<bool> defaults) {
  const Json* list = metadata.find(key);
  if (list == nullptr) return defaults;
  std::vector<bool> flags;
  if (list->is_array()) {
    for (const Json& flag : list->as_array()) flags.push_back(flag.is_bool() ? flag.as_bool() : flag == Json(1));
  }
  if (flags.size() != defaults.size()) {
    metadata.fail_key(key, fmt::format("expected one flag for each of {} layers", defaults.size()));
  }
  return flags;
}

/// What the converter of other programs can say: chunks of one size and every fourth layer without RoPE, or, with the
/// size 0, every layer with RoPE and full attention. The keys of single layers are ours.
struct GgufLayout {
  int64_t chunk = 0;
  std::vector<bool> rope_layers;
  std::vector<bool> chunked_layers;
  bool has_qk_norm = true;
  AttentionTemperature temperature;
};

GgufLayout default_layout(int64_t chunk, int n_layers) {
  GgufLayout layout;
  layout.chunk = chunk;
  for (int i = 0; i < n_layers; ++i) layout.rope_layers.push_back(chunk == 0 || (i + 1) % kDefaultNoRopeInterval != 0);
  layout.chunked_layers = layout.rope_layers;
  layout.temperature.is_on = chunk > 0;
  return layout;
}

void apply_layout(const GgufLayout& layout, ModelSpec& spec) {
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    LayerSpec& layer = spec.layers[i];
    const bool uses_rope = layout.rope_layers[i];
    layer.rope_style = uses_rope ? RopeStyle::kInterleaved : RopeStyle::kNone;
    layer.qk_norm = uses_rope && layout.has_qk_norm ? QkNorm::kWeightless : QkNorm::kNone;
    if (!uses_rope) layer.temperature = layout.temperature;
    if (layout.chunked_layers[i] && layout.chunk > 0) {
      layer.window = {AttentionWindow::Kind::kChunked, layout.chunk};
    }
  }
}

ModelSpec from_gguf(JsonObjectReader& metadata, const TensorShapes& tensors, const std::vector<float>& rope_divisors) {
  ModelSpec spec = read_base_gguf(metadata, "llama4", tensors, rope_divisors);
  metadata.ignore("llama4.interleave_moe_layer_step");
  metadata.ignore("llama4.expert_feed_forward_length");
  metadata.ignore("llama4.expert_shared_feed_forward_length");
  // Files of real Llama-4 lack the key.
  GgufLayout layout = default_layout(metadata.get_int(kChunkKey, 0, kMaxContext, kDefaultChunk), spec.n_layers());
  layout.rope_layers = read_layer_flags(metadata, kRopeLayersKey, layout.rope_layers);
  layout.chunked_layers = read_layer_flags(metadata, kChunkedLayersKey, layout.chunked_layers);
  layout.has_qk_norm = metadata.get_bool(kQkNormKey, true);
  layout.temperature.attn_scale = metadata.get_number(kTemperatureKey, -1e6, 1e6, layout.temperature.attn_scale);
  layout.temperature.floor_scale = metadata.get_number(kTemperatureLengthKey, 0, 1e12, layout.temperature.floor_scale);
  layout.temperature.is_on = layout.temperature.floor_scale > 0 && layout.temperature.attn_scale != 0;
  apply_layout(layout, spec);
  const auto plain = tensors.find("blk.0.ffn_plain_up.weight");
  if (plain == tensors.end()) {
    spec.mlp_reason = "SwiGLU: no tensor is named ffn_plain_up";
    return spec;
  }
  if (plain->second.size() != 2 || plain->second[0] < 1 || plain->second[0] > kMaxDff) {
    fail(ErrorCode::kCorruptData, "[config] {}: tensor '{}': expected two dimensions, the first from 1 to {}",
         metadata.origin(), plain->first, kMaxDff);
  }
  for (LayerSpec& layer : spec.layers) {
    layer.mlp = MlpKind::kDualBranch;
    layer.d_ff_plain = static_cast<int>(plain->second[0]);
  }
  spec.mlp_reason = "dual-branch: the checkpoint has " + plain->first;
  return spec;
}

/// The layout that a spec has, as far as one can say it.
GgufLayout layout_of(const ModelSpec& spec) {
  GgufLayout layout;
  layout.temperature.is_on = false;
  layout.has_qk_norm = false;
  for (const LayerSpec& layer : spec.layers) {
    const bool uses_rope = layer.rope_style != RopeStyle::kNone;
    layout.rope_layers.push_back(uses_rope);
    layout.chunked_layers.push_back(layer.window.kind == AttentionWindow::Kind::kChunked);
    if (layout.chunked_layers.back()) layout.chunk = layer.window.size;
    if (layer.qk_norm == QkNorm::kWeightless) layout.has_qk_norm = true;
    if (!uses_rope) layout.temperature = layer.temperature;
  }
  return layout;
}

Json to_config(const ModelSpec& spec) {
  const LayerSpec& layer = spec.layers[0];
  const GgufLayout layout = layout_of(spec);
  const bool is_dual = layer.mlp == MlpKind::kDualBranch;
  Json rope_layers = Json::array();
  Json types = Json::array();
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    rope_layers.push(layout.rope_layers[i] ? 1 : 0);
    types.push(layout.chunked_layers[i] ? "chunked_attention" : "full_attention");
  }
  Json config = write_base_config(spec);
  config.set("attention_bias", layer.has_qkv_bias)
      .set("intermediate_size_mlp", is_dual ? layer.d_ff_plain : layer.d_ff)
      .set("num_local_experts", 0)
      .set("num_experts_per_tok", 0)
      .set("interleave_moe_layer_step", 0)
      .set("moe_layers", Json::array())
      .set("no_rope_layers", std::move(rope_layers))
      .set("layer_types", std::move(types))
      .set("attention_chunk_size", layout.chunk > 0 ? Json(layout.chunk) : Json(kDefaultChunk))
      .set("use_qk_norm", layout.has_qk_norm)
      .set("attn_temperature_tuning", layout.temperature.is_on)
      .set("floor_scale", json_number(static_cast<float>(layout.temperature.floor_scale)))
      .set("attn_scale", json_number(static_cast<float>(layout.temperature.attn_scale)));
  return config;
}

std::string mlx_limits(const ModelSpec& spec) {
  if (spec.layers[0].mlp == MlpKind::kDualBranch) return "mlx-lm has no dual-branch MLP and will refuse this model";
  const GgufLayout layout = layout_of(spec);
  const bool has_nope =
      std::find(layout.rope_layers.begin(), layout.rope_layers.end(), false) != layout.rope_layers.end();
  if (has_nope) return "mlx-lm computes layers without RoPE in another way, so its results will differ";
  if (layout.chunk > 0 && layout.chunk < spec.max_context) {
    return fmt::format("mlx-lm does not attend in chunks, so its results will differ beyond {} tokens", layout.chunk);
  }
  return "";
}

std::string gguf_limits(const ModelSpec& spec) {
  if (spec.layers[0].mlp == MlpKind::kDualBranch) return "llama.cpp has no dual-branch MLP and will refuse this model";
  return "llama.cpp so far refuses llama4 models without experts, as this is";
}

void to_gguf(const ModelSpec& spec, GgufMetadata& metadata) {
  write_base_gguf(spec, "llama4", metadata);
  metadata.set("llama4.expert_count", uint32_t{0});
  metadata.set("llama4.expert_used_count", uint32_t{0});
  metadata.set("llama4.interleave_moe_layer_step", uint32_t{0});
  metadata.set("llama4.expert_feed_forward_length", static_cast<uint32_t>(spec.layers[0].d_ff));
  const GgufLayout layout = layout_of(spec);
  const GgufLayout usual = default_layout(layout.chunk, spec.n_layers());
  metadata.set(kChunkKey, static_cast<uint32_t>(layout.chunk));
  const bool has_nope =
      std::find(layout.rope_layers.begin(), layout.rope_layers.end(), false) != layout.rope_layers.end();
  if (layout.rope_layers != usual.rope_layers) metadata.set(kRopeLayersKey, layout.rope_layers);
  if (layout.chunk > 0 && layout.chunked_layers != usual.chunked_layers) {
    metadata.set(kChunkedLayersKey, layout.chunked_layers);
  }
  if (!layout.has_qk_norm) metadata.set(kQkNormKey, false);
  if (has_nope) {
    const double length = layout.temperature.is_on ? layout.temperature.floor_scale : 0;
    metadata.set(kTemperatureLengthKey, static_cast<float>(length));
    metadata.set(kTemperatureKey, static_cast<float>(layout.temperature.attn_scale));
  }
}

}  // namespace

extern const Architecture kLlama4Text;
const Architecture kLlama4Text = {"llama4_text", "Llama4ForCausalLM", "llama4",       NormTransform::kNone,
                                  from_config,   from_gguf,           to_config,      to_gguf,
                                  mlx_limits,    gguf_limits,         "feed_forward", "output"};

}  // namespace mobilellm
