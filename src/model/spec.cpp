// Consistency, counts and names of a model description.
#include "model/spec.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "model/arch/config_keys.h"

namespace mobilellm {
namespace {

void require(bool condition, const std::string& origin, const char* what, int64_t got) {
  if (!condition) fail(ErrorCode::kCorruptData, "[spec] {}: impossible {}: {}", origin, what, got);
}

void validate_layer(const ModelSpec& spec, const LayerSpec& layer, const std::string& origin) {
  require(layer.n_heads >= 1 && layer.n_heads <= kMaxHeads, origin, "n_heads", layer.n_heads);
  require(layer.n_kv_heads >= 1 && layer.n_heads % layer.n_kv_heads == 0, origin, "n_kv_heads", layer.n_kv_heads);
  require(layer.head_dim >= 2 && layer.head_dim <= kMaxHeadDim && layer.head_dim % 2 == 0, origin, "head_dim",
          layer.head_dim);
  require(layer.d_ff >= 1 && layer.d_ff <= kMaxDff, origin, "MLP width", layer.d_ff);
  if (layer.mlp == MlpKind::kDualBranch) {
    require(layer.d_ff_plain >= 1 && layer.d_ff_plain <= kMaxDff, origin, "plain MLP width", layer.d_ff_plain);
  }
  require(layer.window.kind == AttentionWindow::Kind::kFull || layer.window.size >= 1, origin, "attention window",
          layer.window.size);
  require(std::isfinite(layer.score_scale) && layer.score_scale > 0, origin, "score scale (times 1e6)",
          static_cast<int64_t>(layer.score_scale * 1e6f));
  if (layer.rope_style == RopeStyle::kNone) return;
  require(layer.rope_table >= 0 && static_cast<size_t>(layer.rope_table) < spec.rope_tables.size(), origin,
          "RoPE table", layer.rope_table);
  const RopeTable& table = spec.rope_tables[static_cast<size_t>(layer.rope_table)];
  require(table.inv_freq.size() == static_cast<size_t>(layer.head_dim) / 2, origin, "RoPE table size",
          static_cast<int64_t>(table.inv_freq.size()));
}

int64_t layer_parameters(const LayerSpec& layer, int64_t d_model) {
  const int64_t q_width = int64_t{layer.n_heads} * layer.head_dim;
  const int64_t kv_width = int64_t{layer.n_kv_heads} * layer.head_dim;
  int64_t count = 2 * d_model * (q_width + kv_width) + 3 * d_model * layer.d_ff + 2 * d_model * layer.d_ff_plain;
  count += (layer.norm_placement == NormPlacement::kSandwich ? 4 : 2) * d_model;
  if (layer.qk_norm == QkNorm::kPerHead) count += 2 * int64_t{layer.head_dim};
  if (layer.qk_norm == QkNorm::kFullWidth) count += q_width + kv_width;
  if (layer.has_qkv_bias) count += q_width + 2 * kv_width;
  if (layer.has_o_bias) count += d_model;
  if (layer.has_mlp_bias) count += 2 * int64_t{layer.d_ff} + d_model;
  return count;
}

}  // namespace

void validate(const ModelSpec& spec, const std::string& origin) {
  require(spec.vocab_size >= 1 && spec.vocab_size <= kMaxVocab, origin, "vocab_size", spec.vocab_size);
  require(spec.d_model >= 1 && spec.d_model <= kMaxDModel, origin, "d_model", spec.d_model);
  require(spec.max_context >= 1 && spec.max_context <= kMaxContext, origin, "max_context", spec.max_context);
  require(!spec.layers.empty() && spec.layers.size() <= kMaxLayers, origin, "layer count", spec.n_layers());
  require(spec.norm_eps > 0 && spec.norm_eps <= 1, origin, "norm_eps (times 1e12)",
          static_cast<int64_t>(static_cast<double>(spec.norm_eps) * 1e12));
  for (const LayerSpec& layer : spec.layers) validate_layer(spec, layer, origin);
}

int64_t parameter_count(const ModelSpec& spec) {
  int64_t count = int64_t{spec.vocab_size} * spec.d_model * (spec.is_output_tied ? 1 : 2) + spec.d_model;
  for (const LayerSpec& layer : spec.layers) count += layer_parameters(layer, spec.d_model);
  return count;
}

int64_t kv_bytes_per_token(const ModelSpec& spec, int bytes_per_value) {
  int64_t values = 0;
  for (const LayerSpec& layer : spec.layers) values += 2 * int64_t{layer.n_kv_heads} * layer.head_dim;
  return values * bytes_per_value;
}

int64_t kv_bytes(const ModelSpec& spec, int bytes_per_value, int64_t n_tokens) {
  int64_t values = 0;
  for (const LayerSpec& layer : spec.layers) {
    const bool has_window = layer.window.kind != AttentionWindow::Kind::kFull;
    const int64_t n_kept = has_window ? std::min(n_tokens, layer.window.size) : n_tokens;
    values += 2 * int64_t{layer.n_kv_heads} * layer.head_dim * n_kept;
  }
  return values * bytes_per_value;
}

const char* to_string(NormPlacement value) {
  switch (value) {
    case NormPlacement::kPre:
      return "pre";
    case NormPlacement::kPost:
      return "post";
    case NormPlacement::kSandwich:
      return "sandwich";
  }
  return "?";
}

const char* to_string(QkNorm value) {
  switch (value) {
    case QkNorm::kNone:
      return "none";
    case QkNorm::kWeightless:
      return "weightless";
    case QkNorm::kPerHead:
      return "per head";
    case QkNorm::kFullWidth:
      return "full width";
  }
  return "?";
}

const char* to_string(RopeStyle value) {
  switch (value) {
    case RopeStyle::kNone:
      return "none";
    case RopeStyle::kInterleaved:
      return "interleaved";
    case RopeStyle::kHalfSplit:
      return "half split";
  }
  return "?";
}

const char* to_string(Activation value) {
  switch (value) {
    case Activation::kSilu:
      return "silu";
    case Activation::kGeluTanh:
      return "gelu_tanh";
  }
  return "?";
}

const char* to_string(MlpKind value) {
  switch (value) {
    case MlpKind::kGated:
      return "gated";
    case MlpKind::kDualBranch:
      return "dual-branch";
  }
  return "?";
}

}  // namespace mobilellm
