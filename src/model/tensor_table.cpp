// Names of tensors in Hugging Face, MLX and GGUF files.
#include "model/tensor_table.h"

#include <fmt/core.h>

#include <string_view>
#include <utility>

namespace mobilellm {
namespace {

using Names = std::vector<std::string>;

/// Name parts of one role. HF and MLX names are relative to the layer; each may follow "model.layers.N." or "layers.N."
struct RoleNames {
  Names hugging_face;
  const char* gguf;
};

/// The parts of a Hugging Face name that have two spellings.
Names attention_names(std::string_view module) {
  return {fmt::format("self_attn.{}", module), fmt::format("attention.{}", module)};
}

class TableBuilder {
 public:
  explicit TableBuilder(const ModelDescription& description) : description_(description) {}

  std::vector<TensorEntry> build() {
    const ModelSpec& spec = description_.spec;
    const int64_t d_model = spec.d_model;
    const int64_t vocab = spec.vocab_size;
    add_model(TensorRole::kEmbedTokens,
              {"model.embed_tokens", "model.tok_embeddings", "embed_tokens", "tok_embeddings"}, "token_embd",
              {vocab, d_model});
    if (!spec.is_output_tied) {
      add_model(TensorRole::kLmHead, head_names(), "output", {vocab, d_model});
    }
    add_model(TensorRole::kFinalNorm, {"model.norm", "norm"}, "output_norm", {d_model});
    for (int i = 0; i < spec.n_layers(); ++i) add_layer(i, spec.layers[static_cast<size_t>(i)], d_model);
    return std::move(table_);
  }

 private:
  void add_model(TensorRole role, const Names& names, const char* gguf_name, std::vector<int64_t> shape) {
    TensorEntry entry;
    entry.role = role;
    if (description_.names == NameScheme::kGguf) {
      entry.names = {fmt::format("{}.weight", gguf_name)};
    } else {
      for (const std::string& name : names) entry.names.push_back(name + ".weight");
    }
    if (shape.size() == 1) entry.transform = description_.norm_transform;
    entry.shape = std::move(shape);
    table_.push_back(std::move(entry));
  }

  void add(TensorRole role, const RoleNames& names, const char* suffix, std::vector<int64_t> shape,
           NormTransform transform = NormTransform::kNone) {
    TensorEntry entry;
    entry.role = role;
    entry.layer = layer_;
    if (description_.names == NameScheme::kGguf) {
      entry.names = {fmt::format("blk.{}.{}.{}", layer_, names.gguf, suffix)};
    } else {
      for (const char* prefix : {"model.", ""}) {
        for (const std::string& name : names.hugging_face) {
          entry.names.push_back(fmt::format("{}layers.{}.{}.{}", prefix, layer_, name, suffix));
        }
      }
    }
    entry.shape = std::move(shape);
    entry.transform = transform;
    table_.push_back(std::move(entry));
  }

  void add_norm(TensorRole role, const RoleNames& names, int64_t width) {
    add(role, names, "weight", {width}, description_.norm_transform);
  }

  void add_linear(TensorRole role, const RoleNames& names, int64_t out, int64_t in) {
    add(role, names, "weight", {out, in});
  }

  void add_norms(const LayerSpec& layer, int64_t d_model) {
    switch (layer.norm_placement) {
      case NormPlacement::kPre:
        add_norm(TensorRole::kAttentionNorm, {{"input_layernorm", "attention_norm"}, "attn_norm"}, d_model);
        add_norm(TensorRole::kMlpNorm, {{"post_attention_layernorm", "ffn_norm"}, "ffn_norm"}, d_model);
        break;
      case NormPlacement::kPost:
        add_norm(TensorRole::kAttentionPostNorm, {{"post_attention_layernorm"}, "post_attention_norm"}, d_model);
        add_norm(TensorRole::kMlpPostNorm, {{"post_feedforward_layernorm"}, "post_ffw_norm"}, d_model);
        break;
      case NormPlacement::kSandwich:
        add_norm(TensorRole::kAttentionNorm, {{"input_layernorm"}, "attn_norm"}, d_model);
        add_norm(TensorRole::kAttentionPostNorm, {{"post_attention_layernorm"}, "post_attention_norm"}, d_model);
        add_norm(TensorRole::kMlpNorm, {{"pre_feedforward_layernorm"}, "ffn_norm"}, d_model);
        add_norm(TensorRole::kMlpPostNorm, {{"post_feedforward_layernorm"}, "post_ffw_norm"}, d_model);
        break;
    }
  }

  void add_attention(const LayerSpec& layer, int64_t d_model) {
    const int64_t q_width = int64_t{layer.n_heads} * layer.head_dim;
    const int64_t kv_width = int64_t{layer.n_kv_heads} * layer.head_dim;
    const RoleNames q = {attention_names("q_proj"), "attn_q"};
    const RoleNames k = {attention_names("k_proj"), "attn_k"};
    const RoleNames v = {attention_names("v_proj"), "attn_v"};
    const RoleNames o = {attention_names("o_proj"), "attn_output"};
    add_linear(TensorRole::kQProj, q, q_width, d_model);
    add_linear(TensorRole::kKProj, k, kv_width, d_model);
    add_linear(TensorRole::kVProj, v, kv_width, d_model);
    add_linear(TensorRole::kOProj, o, d_model, q_width);
    if (layer.has_qkv_bias) {
      add(TensorRole::kQBias, q, "bias", {q_width});
      add(TensorRole::kKBias, k, "bias", {kv_width});
      add(TensorRole::kVBias, v, "bias", {kv_width});
    }
    if (layer.has_o_bias) add(TensorRole::kOBias, o, "bias", {d_model});
    if (layer.qk_norm == QkNorm::kPerHead || layer.qk_norm == QkNorm::kFullWidth) {
      const bool is_full = layer.qk_norm == QkNorm::kFullWidth;
      const int64_t head_dim = layer.head_dim;
      add_norm(TensorRole::kQNorm, {attention_names("q_norm"), "attn_q_norm"}, is_full ? q_width : head_dim);
      add_norm(TensorRole::kKNorm, {attention_names("k_norm"), "attn_k_norm"}, is_full ? kv_width : head_dim);
    }
  }

  /// The family's own name of the module first.
  Names mlp_names(std::string_view module) const {
    Names names = {fmt::format("mlp.{}", module), fmt::format("feed_forward.{}", module)};
    const Architecture* family = description_.architecture;
    if (family != nullptr && names[1].starts_with(family->mlp_module)) std::swap(names[0], names[1]);
    return names;
  }

  Names head_names() const {
    Names names = {"lm_head", "output", "model.lm_head", "model.output"};
    const Architecture* family = description_.architecture;
    const bool is_mlx = family != nullptr && description_.names == NameScheme::kMlx;
    if (is_mlx && names[1] == family->mlx_lm_head) std::swap(names[0], names[1]);
    return names;
  }

  void add_mlp(const LayerSpec& layer, int64_t d_model) {
    const bool is_dual = layer.mlp == MlpKind::kDualBranch;
    const RoleNames gate = {mlp_names(is_dual ? "g_gate" : "gate_proj"), "ffn_gate"};
    const RoleNames up = {mlp_names(is_dual ? "g_up" : "up_proj"), "ffn_up"};
    const RoleNames down = {mlp_names(is_dual ? "g_down" : "down_proj"), "ffn_down"};
    add_linear(TensorRole::kGateProj, gate, layer.d_ff, d_model);
    add_linear(TensorRole::kUpProj, up, layer.d_ff, d_model);
    add_linear(TensorRole::kDownProj, down, d_model, layer.d_ff);
    if (layer.has_mlp_bias) {
      add(TensorRole::kGateBias, gate, "bias", {layer.d_ff});
      add(TensorRole::kUpBias, up, "bias", {layer.d_ff});
      add(TensorRole::kDownBias, down, "bias", {d_model});
    }
    if (is_dual) {
      add_linear(TensorRole::kPlainUp, {mlp_names("p_up"), "ffn_plain_up"}, layer.d_ff_plain, d_model);
      add_linear(TensorRole::kPlainDown, {mlp_names("p_down"), "ffn_plain_down"}, d_model, layer.d_ff_plain);
    }
  }

  void add_layer(int index, const LayerSpec& layer, int64_t d_model) {
    layer_ = index;
    add_norms(layer, d_model);
    add_attention(layer, d_model);
    add_mlp(layer, d_model);
  }

  const ModelDescription& description_;
  int layer_ = 0;
  std::vector<TensorEntry> table_;
};

}  // namespace

std::vector<TensorEntry> tensor_table(const ModelDescription& description) { return TableBuilder(description).build(); }

}  // namespace mobilellm
