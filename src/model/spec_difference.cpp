// Comparison of two descriptions of one model.
#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "model/spec.h"

namespace mobilellm {
namespace {

bool is_near(double a, double b, double tolerance) {
  return std::abs(a - b) <= tolerance * std::max(std::abs(a), std::abs(b));
}

std::string window_text(const AttentionWindow& window) {
  switch (window.kind) {
    case AttentionWindow::Kind::kFull:
      return "full";
    case AttentionWindow::Kind::kSliding:
      return fmt::format("sliding {}", window.size);
    case AttentionWindow::Kind::kChunked:
      return fmt::format("chunks of {}", window.size);
  }
  return "?";
}

class Comparison {
 public:
  std::string found;

  template <typename T>
  void same(const char* what, const T& a, const T& b) {
    if (found.empty() && a != b) found = fmt::format("{}: {} and {}", what, a, b);
  }
  void near(const char* what, double a, double b, double tolerance = 1e-6) {
    if (found.empty() && !is_near(a, b, tolerance)) found = fmt::format("{}: {} and {}", what, a, b);
  }
};

void compare_rope(const ModelSpec& a, const ModelSpec& b, const LayerSpec& x, const LayerSpec& y,
                  Comparison& comparison) {
  const bool rotates = x.rope_style != RopeStyle::kNone;
  comparison.same("RoPE", rotates, y.rope_style != RopeStyle::kNone);
  if (!rotates || !comparison.found.empty()) return;
  const RopeTable& s = a.rope_tables[static_cast<size_t>(x.rope_table)];
  const RopeTable& t = b.rope_tables[static_cast<size_t>(y.rope_table)];
  comparison.near("RoPE attention factor", static_cast<double>(s.attention_factor),
                  static_cast<double>(t.attention_factor));
  comparison.same("RoPE speeds", s.inv_freq.size(), t.inv_freq.size());
  for (size_t i = 0; comparison.found.empty() && i < s.inv_freq.size(); ++i) {
    comparison.near("RoPE speed", static_cast<double>(s.inv_freq[i]), static_cast<double>(t.inv_freq[i]), 2e-6);
  }
}

void compare_layers(const ModelSpec& a, const ModelSpec& b, size_t index, Comparison& comparison) {
  const LayerSpec& x = a.layers[index];
  const LayerSpec& y = b.layers[index];
  comparison.same("heads", x.n_heads, y.n_heads);
  comparison.same("key and value heads", x.n_kv_heads, y.n_kv_heads);
  comparison.same("head size", x.head_dim, y.head_dim);
  comparison.same("MLP", std::string(to_string(x.mlp)), std::string(to_string(y.mlp)));
  comparison.same("MLP width", x.d_ff, y.d_ff);
  comparison.same("plain MLP width", x.d_ff_plain, y.d_ff_plain);
  comparison.same("norms", std::string(to_string(x.norm_placement)), std::string(to_string(y.norm_placement)));
  comparison.same("q/k norm", std::string(to_string(x.qk_norm)), std::string(to_string(y.qk_norm)));
  comparison.same("activation", std::string(to_string(x.activation)), std::string(to_string(y.activation)));
  comparison.same("attention window", window_text(x.window), window_text(y.window));
  comparison.same("attention temperature", x.temperature.is_on, y.temperature.is_on);
  if (x.temperature.is_on && comparison.found.empty()) {
    comparison.near("floor_scale", x.temperature.floor_scale, y.temperature.floor_scale);
    comparison.near("attn_scale", x.temperature.attn_scale, y.temperature.attn_scale);
  }
  comparison.near("attention scale", static_cast<double>(x.score_scale), static_cast<double>(y.score_scale));
  comparison.same("q, k, v biases", x.has_qkv_bias, y.has_qkv_bias);
  comparison.same("o bias", x.has_o_bias, y.has_o_bias);
  comparison.same("MLP biases", x.has_mlp_bias, y.has_mlp_bias);
  compare_rope(a, b, x, y, comparison);
  if (!comparison.found.empty()) comparison.found = fmt::format("layer {}: {}", index, comparison.found);
}

}  // namespace

std::string first_difference(const ModelSpec& a, const ModelSpec& b) {
  Comparison comparison;
  comparison.same("vocabulary", a.vocab_size, b.vocab_size);
  comparison.same("width", a.d_model, b.d_model);
  comparison.same("context", a.max_context, b.max_context);
  comparison.same("layers", a.n_layers(), b.n_layers());
  comparison.same("tied output", a.is_output_tied, b.is_output_tied);
  comparison.near("embedding scale", static_cast<double>(a.embedding_scale), static_cast<double>(b.embedding_scale),
                  1e-2);
  comparison.near("norm epsilon", static_cast<double>(a.norm_eps), static_cast<double>(b.norm_eps));
  for (size_t i = 0; comparison.found.empty() && i < a.layers.size(); ++i) compare_layers(a, b, i, comparison);
  return comparison.found;
}

}  // namespace mobilellm
