// Gemma-3 text models: sandwich norms with weights 1 + w, sliding layers with their own RoPE, scaled embeddings.
#include <cmath>

#include "base/error.h"
#include "model/arch/config_writer.h"
#include "model/arch/registry.h"
#include "model/arch/rope.h"

namespace mobilellm {
namespace {

constexpr int kGlobalTable = 0;
constexpr int kLocalTable = 1;
constexpr int64_t kDefaultPattern = 6;

/// Every `pattern`-th layer sees everything, the others slide.
bool is_sliding_layer(int index, int64_t pattern) { return (index + 1) % pattern != 0; }

void set_window(LayerSpec& layer, const AttentionWindow& window) {
  layer.window = window;
  layer.rope_table = window.kind == AttentionWindow::Kind::kSliding ? kLocalTable : kGlobalTable;
}

void set_blocks(ModelSpec& spec) {
  for (LayerSpec& layer : spec.layers) {
    layer.norm_placement = NormPlacement::kSandwich;
    layer.qk_norm = QkNorm::kPerHead;
    layer.activation = Activation::kGeluTanh;
  }
  spec.embedding_scale = std::sqrt(static_cast<float>(spec.d_model));
}

void refuse_softcap(JsonObjectReader& reader, const std::string& key) {
  if (reader.has(key) && reader.get_number(key, 0, 1e9) != 0) {
    fail(ErrorCode::kUnsupported, "[config] {}: {}: soft-capping is not supported", reader.origin(), key);
  }
  reader.ignore(key);
}

void read_ropes(JsonObjectReader& config, ModelSpec& spec) {
  const int head_dim = spec.layers[0].head_dim;
  const double local_theta = config.get_number("rope_local_base_freq", kMinRopeTheta, kMaxRopeTheta, 10000);
  const Json* parameters = config.find("rope_parameters");
  if (parameters != nullptr && parameters->find("full_attention") != nullptr) {
    const double theta = config.get_number("rope_theta", kMinRopeTheta, kMaxRopeTheta, 1e6);
    config.ignore("rope_scaling");
    JsonObjectReader nested = config.get_object("rope_parameters");
    JsonObjectReader global = nested.get_object("full_attention");
    spec.rope_tables.push_back(read_rope_parameters(global, theta, head_dim, spec.max_context));
    if (nested.has("sliding_attention")) {
      JsonObjectReader local = nested.get_object("sliding_attention");
      spec.rope_tables.push_back(read_rope_parameters(local, local_theta, head_dim, spec.max_context));
    } else {
      spec.rope_tables.push_back(make_rope_table(local_theta, head_dim));
    }
    for (const std::string& key : nested.unread_keys()) {
      fail(ErrorCode::kUnsupported, "[config] {}: {}: this RoPE setting is not supported", config.origin(), key);
    }
    return;
  }
  spec.rope_tables.push_back(read_rope(config, 1e6, head_dim, spec.max_context));
  spec.rope_tables.push_back(make_rope_table(local_theta, head_dim));
}

ModelSpec from_config(JsonObjectReader& config, const TensorShapes& tensors) {
  // The output is tied by construction.
  if (!config.get_bool("tie_word_embeddings", true)) config.fail_key("tie_word_embeddings", "got false, expected true");
  ModelSpec spec = read_base_config(config, {.head_dim = 256, .activation_key = "hidden_activation"}, tensors);
  spec.is_output_tied = true;
  config.ignore("hidden_act");  // Present in some files; the class reads only hidden_activation.
  set_blocks(spec);
  refuse_softcap(config, "attn_logit_softcapping");
  refuse_softcap(config, "final_logit_softcapping");
  if (config.get_bool("use_bidirectional_attention", false)) {
    fail(ErrorCode::kUnsupported, "[config] {}: use_bidirectional_attention: got true, expected false",
         config.origin());
  }

  const double query_scalar = config.get_number("query_pre_attn_scalar", 1e-6, 1e9, 256);
  const int64_t size = config.get_int("sliding_window", 1, kMaxContext, 4096);
  // transformers writes the pattern with an underscore when layer_types stands beside it.
  const int64_t hidden_pattern = config.get_int("_sliding_window_pattern", 1, kMaxLayers, kDefaultPattern);
  const int64_t pattern = config.get_int("sliding_window_pattern", 1, kMaxLayers, hidden_pattern);
  const std::vector<AttentionWindow> windows = read_layer_types(config, spec.n_layers(), size, 0);
  for (int i = 0; i < spec.n_layers(); ++i) {
    LayerSpec& layer = spec.layers[static_cast<size_t>(i)];
    layer.score_scale = static_cast<float>(1.0 / std::sqrt(query_scalar));
    if (!windows.empty()) {
      set_window(layer, windows[static_cast<size_t>(i)]);
    } else if (is_sliding_layer(i, pattern)) {
      set_window(layer, {AttentionWindow::Kind::kSliding, size});
    }
  }
  read_ropes(config, spec);
  return spec;
}

/// The key is mostly absent; newer writers give the period or one flag for each layer.
std::vector<bool> read_gguf_pattern(JsonObjectReader& metadata, int n_layers) {
  constexpr const char* kKey = "gemma3.attention.sliding_window_pattern";
  std::vector<bool> slides;
  const Json* list = metadata.find(kKey);
  if (list != nullptr && list->is_array()) {
    for (const Json& flag : list->as_array()) slides.push_back(flag.is_bool() ? flag.as_bool() : flag == Json(1));
    if (slides.size() < static_cast<size_t>(n_layers)) {
      metadata.fail_key(kKey,
                        fmt::format("has {} entries, expected one for each of {} layers", slides.size(), n_layers));
    }
    return slides;
  }
  const int64_t pattern = metadata.get_int(kKey, 1, kMaxLayers, kDefaultPattern);
  for (int i = 0; i < n_layers; ++i) slides.push_back(is_sliding_layer(i, pattern));
  return slides;
}

ModelSpec from_gguf(JsonObjectReader& metadata, const TensorShapes& tensors, const std::vector<float>& rope_divisors) {
  ModelSpec spec = read_base_gguf(metadata, "gemma3", tensors, rope_divisors);
  set_blocks(spec);
  refuse_softcap(metadata, "gemma3.attn_logit_softcapping");
  refuse_softcap(metadata, "gemma3.final_logit_softcapping");
  const double local_theta = metadata.get_number("gemma3.rope.freq_base_swa", kMinRopeTheta, kMaxRopeTheta, 10000);
  spec.rope_tables.push_back(make_rope_table(local_theta, spec.layers[0].head_dim));
  const int64_t size = metadata.get_int("gemma3.attention.sliding_window", 1, kMaxContext, 1024);
  const std::vector<bool> slides = read_gguf_pattern(metadata, spec.n_layers());
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    if (slides[i]) set_window(spec.layers[i], {AttentionWindow::Kind::kSliding, size});
  }
  // Not a key of other programs, which take head_dim^-0.5.
  const double scale = metadata.get_number("gemma3.attention.scale", 0, 1e3, 0);
  for (LayerSpec& layer : spec.layers) {
    if (scale > 0) layer.score_scale = static_cast<float>(scale);
  }
  return spec;
}

bool is_sliding(const LayerSpec& layer) { return layer.window.kind == AttentionWindow::Kind::kSliding; }

/// The period of the window pattern; 0 when it has none.
int64_t find_pattern(const ModelSpec& spec) {
  for (int64_t pattern = 1; pattern <= spec.n_layers() + 1; ++pattern) {
    bool fits = true;
    for (int i = 0; i < spec.n_layers(); ++i) {
      fits = fits && is_sliding_layer(i, pattern) == is_sliding(spec.layers[static_cast<size_t>(i)]);
    }
    // The usual period where a few layers leave several possible.
    if (fits && spec.n_layers() < kDefaultPattern && pattern > spec.n_layers()) return kDefaultPattern;
    if (fits) return pattern;
  }
  return 0;
}

int64_t window_size(const ModelSpec& spec) {
  for (const LayerSpec& layer : spec.layers) {
    if (is_sliding(layer)) return layer.window.size;
  }
  return 4096;
}

Json to_config(const ModelSpec& spec) {
  const LayerSpec& layer = spec.layers[0];
  Json config = write_base_config(spec);
  std::erase_if(config.as_object(), [](const Json::Member& member) { return member.first == "hidden_act"; });
  // query_pre_attn_scalar is a small integer in every published file.
  const double scalar = 1.0 / (static_cast<double>(layer.score_scale) * static_cast<double>(layer.score_scale));
  const double rounded = std::round(scalar);
  const bool is_integer = static_cast<float>(1.0 / std::sqrt(rounded)) == layer.score_scale;
  config.set("hidden_activation", "gelu_pytorch_tanh")
      .set("attention_bias", layer.has_qkv_bias)
      .set("query_pre_attn_scalar", is_integer ? Json(static_cast<int64_t>(rounded)) : Json(scalar))
      .set("sliding_window", window_size(spec))
      .set("rope_local_base_freq", spec.rope_tables[kLocalTable].theta)
      .set("attn_logit_softcapping", nullptr)
      .set("final_logit_softcapping", nullptr);
  Json types = Json::array();
  for (const LayerSpec& each : spec.layers) types.push(is_sliding(each) ? "sliding_attention" : "full_attention");
  config.set("layer_types", std::move(types));
  const int64_t pattern = find_pattern(spec);
  if (pattern > 0) config.set("sliding_window_pattern", pattern);
  return config;
}

std::string mlx_limits(const ModelSpec& spec) {
  if (find_pattern(spec) > 0) return "";
  return "mlx-lm knows only regular patterns of sliding layers, so its results will differ";
}

std::string gguf_limits(const ModelSpec& spec) {
  const LayerSpec& layer = spec.layers[0];
  if (layer.score_scale != static_cast<float>(1.0 / std::sqrt(layer.head_dim))) {
    return "llama.cpp always scales attention by the head size, so its results will differ";
  }
  const int64_t pattern = find_pattern(spec);
  if (pattern != kDefaultPattern && pattern <= spec.n_layers()) {
    return fmt::format("llama.cpp may take every {}th layer as the one that does not slide, so its results may differ",
                       kDefaultPattern);
  }
  return "";
}

void to_gguf(const ModelSpec& spec, GgufMetadata& metadata) {
  write_base_gguf(spec, "gemma3", metadata);
  metadata.set("gemma3.rope.freq_base_swa", static_cast<float>(spec.rope_tables[kLocalTable].theta));
  metadata.set("gemma3.attention.sliding_window", static_cast<uint32_t>(window_size(spec)));
  const int64_t pattern = find_pattern(spec);
  if (pattern == 0) {
    std::vector<bool> slides;
    slides.reserve(spec.layers.size());
    for (const LayerSpec& layer : spec.layers) slides.push_back(is_sliding(layer));
    metadata.set("gemma3.attention.sliding_window_pattern", std::move(slides));
  } else if (pattern != kDefaultPattern) {
    metadata.set("gemma3.attention.sliding_window_pattern", static_cast<uint32_t>(pattern));
  }
  const LayerSpec& layer = spec.layers[0];
  if (layer.score_scale != static_cast<float>(1.0 / std::sqrt(layer.head_dim))) {
    metadata.set("gemma3.attention.scale", layer.score_scale);
  }
}

}  // namespace

extern const Architecture kGemma3Text;
const Architecture kGemma3Text = {"gemma3_text", "Gemma3ForCausalLM", "gemma3",  NormTransform::kAddOne,
                                  from_config,   from_gguf,           to_config, to_gguf,
                                  mlx_limits,    gguf_limits};

}  // namespace mobilellm
