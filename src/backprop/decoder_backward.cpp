// Backward passes of attention and MLP.
#include <algorithm>

#include "backprop/decoder.h"
#include "base/thread_pool.h"

namespace mobilellm {
namespace {

void report_bias(WeightReader& weights, GradientSink& sink, TensorRole role, int layer, const std::vector<float>& d_y) {
  const size_t n = weights.vector(role, layer).size();
  if (n == 0) return;
  std::vector<float> sums(n);
  for (size_t i = 0; i < d_y.size(); ++i) sums[i % n] += d_y[i];
  sink.vector_gradient(role, layer, sums);
}

}  // namespace

void Decoder::backward_layer(WeightReader& weights, int index, const LayerActivations& a, GradientSink& sink) {
  // d_hidden_ is the gradient of the residual stream; each branch adds to it.
  backward_mlp(weights, index, a, sink);
  backward_attention(weights, index, a, sink);
}

void Decoder::backward_mlp(WeightReader& weights, int index, const LayerActivations& a, GradientSink& sink) {
  const LayerSpec& layer = spec_.layers[static_cast<size_t>(index)];
  const int64_t d_model = spec_.d_model;
  const std::vector<float>& x = a.mlp_input.empty() ? a.middle : a.mlp_input;
  d_branch_ = d_hidden_;
  if (!a.mlp_output.empty()) {
    norm_backward(sink, TensorRole::kMlpPostNorm, index, weights.vector(TensorRole::kMlpPostNorm, index), a.mlp_output,
                  d_hidden_.data(), d_branch_, false);
  }
  auto* const activation =
      layer.activation == Activation::kSilu ? kernels_.silu_mul_backward : kernels_.gelu_tanh_mul_backward;
  const auto activate = [&](const std::vector<float>& gate, const std::vector<float>* up, int64_t width) {
    d_gate_.resize(floats(width));
    d_up_.resize(floats(width));
    pool_.run(n_tokens_, [&](int64_t i, int /*worker*/) {
      const int64_t at = i * width;
      activation({gate.data() + at, up == nullptr ? nullptr : up->data() + at, d_active_.data() + at,
                  d_gate_.data() + at, d_up_.data() + at, width});
    });
  };
  report_bias(weights, sink, TensorRole::kDownBias, index, d_branch_);
  linear_backward(weights, sink, TensorRole::kDownProj, index, a.active, layer.d_ff, d_model, d_branch_, d_active_,
                  false);
  activate(a.gate, &a.up, layer.d_ff);
  report_bias(weights, sink, TensorRole::kUpBias, index, d_up_);
  report_bias(weights, sink, TensorRole::kGateBias, index, d_gate_);
  linear_backward(weights, sink, TensorRole::kUpProj, index, x, d_model, layer.d_ff, d_up_, d_input_, false);
  linear_backward(weights, sink, TensorRole::kGateProj, index, x, d_model, layer.d_ff, d_gate_, d_input_, true);
  if (layer.mlp == MlpKind::kDualBranch) {
    linear_backward(weights, sink, TensorRole::kPlainDown, index, a.plain_active, layer.d_ff_plain, d_model, d_branch_,
                    d_active_, false);
    activate(a.plain, nullptr, layer.d_ff_plain);
    linear_backward(weights, sink, TensorRole::kPlainUp, index, x, d_model, layer.d_ff_plain, d_gate_, d_input_, true);
  }
  if (a.mlp_input.empty()) {
    kernels_.add({d_input_.data(), d_hidden_.data(), static_cast<int64_t>(d_hidden_.size())});
  } else {
    norm_backward(sink, TensorRole::kMlpNorm, index, weights.vector(TensorRole::kMlpNorm, index), a.middle,
                  d_input_.data(), d_hidden_, true);
  }
}

void Decoder::backward_attention(WeightReader& weights, int index, const LayerActivations& a, GradientSink& sink) {
  const LayerSpec& layer = spec_.layers[static_cast<size_t>(index)];
  const int64_t d_model = spec_.d_model;
  const int64_t q_width = int64_t{layer.n_heads} * layer.head_dim;
  const int64_t kv_width = int64_t{layer.n_kv_heads} * layer.head_dim;
  const std::vector<float>& x = a.attention_input.empty() ? a.input : a.attention_input;
  d_branch_ = d_hidden_;
  if (!a.attention_output.empty()) {
    norm_backward(sink, TensorRole::kAttentionPostNorm, index, weights.vector(TensorRole::kAttentionPostNorm, index),
                  a.attention_output, d_hidden_.data(), d_branch_, false);
  }
  report_bias(weights, sink, TensorRole::kOBias, index, d_branch_);
  linear_backward(weights, sink, TensorRole::kOProj, index, a.attended, q_width, d_model, d_branch_, d_attended_,
                  false);
  d_q_.resize(floats(q_width));
  d_k_.resize(floats(kv_width));
  d_v_.resize(floats(kv_width));
  const int group = layer.n_heads / layer.n_kv_heads;
  pool_.run(static_cast<int64_t>(sequences_.size()) * layer.n_kv_heads, [&](int64_t task, int worker) {
    const Sequence& sequence = sequences_[static_cast<size_t>(task / layer.n_kv_heads)];
    const int64_t head = task % layer.n_kv_heads;
    const int64_t q_at = sequence.begin * q_width + head * group * layer.head_dim;
    const int64_t kv_at = sequence.begin * kv_width + head * layer.head_dim;
    attend_backward(kernels_,
                    {sequence.length, layer.head_dim, group, layer.window, a.q.data() + q_at, q_width,
                     a.k.data() + kv_at, a.v.data() + kv_at, kv_width},
                    a.attended.data() + q_at, d_attended_.data() + q_at, d_q_.data() + q_at, d_k_.data() + kv_at,
                    d_v_.data() + kv_at, workspaces_[static_cast<size_t>(worker)]);
  });
  const auto heads = [&](TensorRole role, const std::vector<float>& raw, int n_heads, bool is_query,
                         std::vector<float>& d_heads) {
    std::vector<float> d_weight;
    const std::span<const float> weight = weights.vector(role, index);
    backward_heads(layer, weight, raw, n_heads, is_query, d_heads, d_weight);
    if (!weight.empty()) sink.vector_gradient(role, index, d_weight);
  };
  heads(TensorRole::kQNorm, a.q_raw, layer.n_heads, true, d_q_);
  heads(TensorRole::kKNorm, a.k_raw, layer.n_kv_heads, false, d_k_);
  report_bias(weights, sink, TensorRole::kVBias, index, d_v_);
  report_bias(weights, sink, TensorRole::kKBias, index, d_k_);
  report_bias(weights, sink, TensorRole::kQBias, index, d_q_);
  linear_backward(weights, sink, TensorRole::kVProj, index, x, d_model, kv_width, d_v_, d_input_, false);
  linear_backward(weights, sink, TensorRole::kKProj, index, x, d_model, kv_width, d_k_, d_input_, true);
  linear_backward(weights, sink, TensorRole::kQProj, index, x, d_model, q_width, d_q_, d_input_, true);
  if (a.attention_input.empty()) {
    kernels_.add({d_input_.data(), d_hidden_.data(), static_cast<int64_t>(d_hidden_.size())});
  } else {
    norm_backward(sink, TensorRole::kAttentionNorm, index, weights.vector(TensorRole::kAttentionNorm, index), a.input,
                  d_input_.data(), d_hidden_, true);
  }
}

void Decoder::backward_heads(const LayerSpec& layer, std::span<const float> weight, const std::vector<float>& raw,
                             int n_heads, bool is_query, std::vector<float>& d_heads, std::vector<float>& d_weight) {
  constexpr int64_t kRows = 64;
  const int64_t dim = layer.head_dim;
  const int64_t width = n_heads * dim;
  const int64_t n_weights = static_cast<int64_t>(weight.size());
  const int64_t n_parts = (n_tokens_ + kRows - 1) / kRows;
  std::vector<float> parts(static_cast<size_t>(n_parts * n_weights));
  const auto rotate = [&](int64_t pos, bool is_inverse, float* row) {
    if (layer.rope_style == RopeStyle::kNone) return;
    rotations_[static_cast<size_t>(layer.rope_table)].apply(layer.rope_style, pos, layer.head_dim, n_heads, is_inverse,
                                                            row);
  };
  pool_.run(n_parts, [&](int64_t part, int /*worker*/) {
    std::vector<float> rotated(static_cast<size_t>(width));
    float* d_part = n_weights == 0 ? nullptr : parts.data() + part * n_weights;
    for (int64_t i = part * kRows; i < std::min(n_tokens_, (part + 1) * kRows); ++i) {
      const int64_t pos = positions_[static_cast<size_t>(i)];
      float* d = d_heads.data() + i * width;
      if (is_query) {
        const float scale = query_scale(layer, pos);
        for (int64_t j = 0; j < width; ++j) d[j] *= scale;
      }
      if (layer.qk_norm == QkNorm::kWeightless) {
        std::copy_n(raw.data() + i * width, width, rotated.data());
        rotate(pos, false, rotated.data());
        for (int64_t j = 0; j < width; j += dim) {
          rms_norm_backward(rotated.data() + j, nullptr, d + j, dim, spec_.norm_eps, d + j, false, nullptr);
        }
      }
      rotate(pos, true, d);
      if (n_weights == 0) continue;
      const float* x = raw.data() + i * width;
      if (layer.qk_norm == QkNorm::kPerHead) {
        for (int64_t j = 0; j < width; j += dim) {
          rms_norm_backward(x + j, weight.data(), d + j, dim, spec_.norm_eps, d + j, false, d_part);
        }
      }
      if (layer.qk_norm == QkNorm::kFullWidth) {
        rms_norm_backward(x, weight.data(), d, width, spec_.norm_eps, d, false, d_part);
      }
    }
  });
  d_weight.assign(static_cast<size_t>(n_weights), 0.0F);
  for (int64_t part = 0; part < n_parts; ++part) {
    for (int64_t j = 0; j < n_weights; ++j) {
      d_weight[static_cast<size_t>(j)] += parts[static_cast<size_t>(part * n_weights + j)];
    }
  }
}

}  // namespace mobilellm
