// Forward and backward passes of the blocks; everything an architecture may vary is read from LayerSpec.
#include "backprop/decoder.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/cpu_features.h"
#include "base/error.h"
#include "base/thread_pool.h"

namespace mobilellm {
namespace {

// Rows of a task of row-wise work, and of one partial sum of a vector's gradient.
constexpr int64_t kTaskRows = 64;

template <typename Task>
void for_rows(ThreadPool& pool, int64_t n_rows, Task task) {
  pool.run((n_rows + kTaskRows - 1) / kTaskRows, [&](int64_t index, int /*worker*/) {
    const int64_t begin = index * kTaskRows;
    task(begin, std::min(begin + kTaskRows, n_rows));
  });
}

const std::vector<float>& either(const std::vector<float>& normed, const std::vector<float>& plain) {
  return normed.empty() ? plain : normed;
}

}  // namespace

Decoder::Decoder(const ModelSpec& spec, bool recomputes, ThreadPool& pool)
    : spec_(spec),
      recomputes_(recomputes),
      kernels_(kernel_table(select_isa())),
      pool_(pool),
      product_(pool),
      workspaces_(static_cast<size_t>(pool.n_threads())) {}

float Decoder::query_scale(const LayerSpec& layer, int64_t pos) const {
  if (!layer.temperature.is_on) return layer.score_scale;
  const double steps = std::floor((static_cast<double>(pos) + 1.0) / layer.temperature.floor_scale);
  return layer.score_scale * static_cast<float>(std::log1p(steps) * layer.temperature.attn_scale + 1.0);
}

void Decoder::forward(WeightReader& weights, const TokenBatch& batch, bool keeps, float* out) {
  n_tokens_ = static_cast<int64_t>(batch.tokens.size());
  MOBILELLM_CHECK(n_tokens_ > 0 &&
                  std::accumulate(batch.lengths.begin(), batch.lengths.end(), int64_t{0}) == n_tokens_);
  tokens_.assign(batch.tokens.begin(), batch.tokens.end());
  sequences_.clear();
  positions_.clear();
  int64_t longest = 0;
  for (const int64_t length : batch.lengths) {
    sequences_.push_back({static_cast<int64_t>(positions_.size()), length});
    for (int64_t i = 0; i < length; ++i) positions_.push_back(i);
    longest = std::max(longest, length);
  }
  if (longest > rotated_positions_) {
    rotations_.clear();
    for (const RopeTable& table : spec_.rope_tables) rotations_.emplace_back(table, longest);
    rotated_positions_ = longest;
  }
  for (const int32_t token : tokens_) {
    if (token >= 0 && token < spec_.vocab_size) continue;
    fail(ErrorCode::kInvalidArgument, "[backprop] token id {} is outside the vocabulary of {}", token,
         spec_.vocab_size);
  }
  const int64_t d_model = spec_.d_model;
  last_hidden_.resize(floats(d_model));
  for (int64_t i = 0; i < n_tokens_; ++i) {
    const int32_t token = tokens_[static_cast<size_t>(i)];
    const float* row = weights.rows(TensorRole::kEmbedTokens, -1, token, token + 1, matrix_);
    for (int64_t d = 0; d < d_model; ++d) {
      last_hidden_[static_cast<size_t>(i * d_model + d)] = row[d] * spec_.embedding_scale;
    }
  }
  layers_.resize(keeps ? spec_.layers.size() : 0);
  for (int i = 0; i < spec_.n_layers(); ++i) {
    LayerActivations& a = keeps && !recomputes_ ? layers_[static_cast<size_t>(i)] : shared_;
    a.input = last_hidden_;
    if (keeps && recomputes_) layers_[static_cast<size_t>(i)].input = last_hidden_;
    forward_layer(weights, i, a, last_hidden_.data());
  }
  const std::span<const float> final_norm = weights.vector(TensorRole::kFinalNorm, -1);
  for_rows(pool_, n_tokens_, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      kernels_.rms_norm(
          {last_hidden_.data() + i * d_model, final_norm.data(), out + i * d_model, d_model, spec_.norm_eps});
    }
  });
}

void Decoder::backward(WeightReader& weights, const float* d_out, GradientSink& sink) {
  MOBILELLM_CHECK(layers_.size() == spec_.layers.size());
  d_hidden_.resize(floats(spec_.d_model));
  norm_backward(sink, TensorRole::kFinalNorm, -1, weights.vector(TensorRole::kFinalNorm, -1), last_hidden_, d_out,
                d_hidden_, false);
  for (int i = spec_.n_layers() - 1; i >= 0; --i) {
    LayerActivations& kept = layers_[static_cast<size_t>(i)];
    if (recomputes_) {
      shared_.input = std::move(kept.input);
      branch_.resize(floats(spec_.d_model));
      std::vector<float> unused(floats(spec_.d_model));
      forward_layer(weights, i, shared_, unused.data());
    }
    backward_layer(weights, i, recomputes_ ? shared_ : kept, sink);
  }
  if (spec_.embedding_scale != 1.0F) {
    for (float& value : d_hidden_) value *= spec_.embedding_scale;
  }
  sink.embedding_gradient(tokens_, d_hidden_.data());
  layers_.clear();
}

void Decoder::linear(WeightReader& weights, TensorRole role, int layer, const std::vector<float>& x, int64_t in,
                     int64_t out, std::vector<float>& y) {
  if (observer_) observer_(role, layer, x.data(), n_tokens_, in);
  y.resize(floats(out));
  const float* w = weights.rows(role, layer, 0, out, matrix_);
  product_.run(row_major(x.data(), in), row_major(w, in).transposed(), n_tokens_, out, in, y.data(), out, false);
}

void Decoder::linear_backward(WeightReader& weights, GradientSink& sink, TensorRole role, int layer,
                              const std::vector<float>& x, int64_t in, int64_t out, const std::vector<float>& d_y,
                              std::vector<float>& d_x, bool accumulates) {
  sink.output_gradient(role, layer, d_y.data(), n_tokens_, out);
  sink.token_gradients(role, layer, x.data(), in, d_y.data(), out, n_tokens_);
  d_x.resize(floats(in));
  const float* w = weights.rows(role, layer, 0, out, matrix_);
  product_.run(row_major(d_y.data(), out), row_major(w, in), n_tokens_, in, out, d_x.data(), in, accumulates);
  // Last: the receiver may change the weights at once.
  if (sink.wants(role, layer)) {
    gradient_.resize(std::max(gradient_.size(), static_cast<size_t>(out * in)));
    product_.run(row_major(d_y.data(), out).transposed(), row_major(x.data(), in), out, in, n_tokens_, gradient_.data(),
                 in, false);
    sink.matrix_gradient(role, layer, gradient_.data());
  }
}

void Decoder::norm(std::span<const float> weight, const std::vector<float>& x, std::vector<float>& y) {
  const int64_t n = spec_.d_model;
  y.resize(floats(n));
  for_rows(pool_, n_tokens_, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      kernels_.rms_norm({x.data() + i * n, weight.data(), y.data() + i * n, n, spec_.norm_eps});
    }
  });
}

void Decoder::norm_backward(GradientSink& sink, TensorRole role, int layer, std::span<const float> weight,
                            const std::vector<float>& x, const float* d_y, std::vector<float>& d_x, bool accumulates) {
  const int64_t n = spec_.d_model;
  const int64_t n_parts = (n_tokens_ + kTaskRows - 1) / kTaskRows;
  partial_.assign(static_cast<size_t>(n_parts * n), 0.0F);
  for_rows(pool_, n_tokens_, [&](int64_t begin, int64_t end) {
    float* d_weight = partial_.data() + begin / kTaskRows * n;
    for (int64_t i = begin; i < end; ++i) {
      rms_norm_backward(x.data() + i * n, weight.data(), d_y + i * n, n, spec_.norm_eps, d_x.data() + i * n,
                        accumulates, d_weight);
    }
  });
  for (int64_t part = 1; part < n_parts; ++part) {
    for (int64_t i = 0; i < n; ++i) partial_[static_cast<size_t>(i)] += partial_[static_cast<size_t>(part * n + i)];
  }
  sink.vector_gradient(role, layer, {partial_.data(), static_cast<size_t>(n)});
}

void Decoder::forward_layer(WeightReader& weights, int index, LayerActivations& a, float* out) {
  const int64_t d_model = spec_.d_model;
  forward_attention(weights, index, a);
  const std::span<const float> post = weights.vector(TensorRole::kAttentionPostNorm, index);
  a.attention_output.clear();
  if (!post.empty()) {
    a.attention_output = branch_;
    norm(post, a.attention_output, branch_);
  }
  a.middle = a.input;
  for_rows(pool_, n_tokens_, [&](int64_t begin, int64_t end) {
    kernels_.add({branch_.data() + begin * d_model, a.middle.data() + begin * d_model, (end - begin) * d_model});
  });
  forward_mlp(weights, index, a, out);
}

void Decoder::forward_attention(WeightReader& weights, int index, LayerActivations& a) {
  const LayerSpec& layer = spec_.layers[static_cast<size_t>(index)];
  const int64_t q_width = int64_t{layer.n_heads} * layer.head_dim;
  const int64_t kv_width = int64_t{layer.n_kv_heads} * layer.head_dim;
  const std::span<const float> before = weights.vector(TensorRole::kAttentionNorm, index);
  a.attention_input.clear();
  if (!before.empty()) norm(before, a.input, a.attention_input);
  const std::vector<float>& x = either(a.attention_input, a.input);
  linear(weights, TensorRole::kQProj, index, x, spec_.d_model, q_width, a.q);
  linear(weights, TensorRole::kKProj, index, x, spec_.d_model, kv_width, a.k);
  linear(weights, TensorRole::kVProj, index, x, spec_.d_model, kv_width, a.v);
  const auto add_bias = [&](TensorRole role, std::vector<float>& y) {
    const std::span<const float> bias = weights.vector(role, index);
    for (size_t i = 0; i < y.size() && !bias.empty(); ++i) y[i] += bias[i % bias.size()];
  };
  add_bias(TensorRole::kQBias, a.q);
  add_bias(TensorRole::kKBias, a.k);
  add_bias(TensorRole::kVBias, a.v);
  if (layer.qk_norm != QkNorm::kNone) {
    a.q_raw = a.q;
    a.k_raw = a.k;
  }
  prepare_heads(layer, weights.vector(TensorRole::kQNorm, index), layer.n_heads, true, a.q);
  prepare_heads(layer, weights.vector(TensorRole::kKNorm, index), layer.n_kv_heads, false, a.k);
  a.attended.resize(floats(q_width));
  const int group = layer.n_heads / layer.n_kv_heads;
  pool_.run(static_cast<int64_t>(sequences_.size()) * layer.n_kv_heads, [&](int64_t task, int worker) {
    const Sequence& sequence = sequences_[static_cast<size_t>(task / layer.n_kv_heads)];
    const int64_t head = task % layer.n_kv_heads;
    const int64_t q_at = sequence.begin * q_width + head * group * layer.head_dim;
    const int64_t kv_at = sequence.begin * kv_width + head * layer.head_dim;
    attend(kernels_,
           {sequence.length, layer.head_dim, group, layer.window, a.q.data() + q_at, q_width, a.k.data() + kv_at,
            a.v.data() + kv_at, kv_width},
           a.attended.data() + q_at, workspaces_[static_cast<size_t>(worker)]);
  });
  linear(weights, TensorRole::kOProj, index, a.attended, q_width, spec_.d_model, branch_);
  add_bias(TensorRole::kOBias, branch_);
}

void Decoder::prepare_heads(const LayerSpec& layer, std::span<const float> weight, int n_heads, bool is_query,
                            std::vector<float>& heads) {
  const int64_t dim = layer.head_dim;
  const int64_t width = n_heads * dim;
  for_rows(pool_, n_tokens_, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      float* row = heads.data() + i * width;
      const int64_t pos = positions_[static_cast<size_t>(i)];
      const auto norm_each = [&](const float* w) {
        for (int head = 0; head < n_heads; ++head) {
          kernels_.rms_norm({row + head * dim, w, row + head * dim, dim, spec_.norm_eps});
        }
      };
      if (layer.qk_norm == QkNorm::kFullWidth) kernels_.rms_norm({row, weight.data(), row, width, spec_.norm_eps});
      if (layer.qk_norm == QkNorm::kPerHead) norm_each(weight.data());
      if (layer.rope_style != RopeStyle::kNone) {
        rotations_[static_cast<size_t>(layer.rope_table)].apply(layer.rope_style, pos, layer.head_dim, n_heads, false,
                                                                row);
      }
      if (layer.qk_norm == QkNorm::kWeightless) norm_each(nullptr);
      if (!is_query) continue;
      const float scale = query_scale(layer, pos);
      for (int64_t d = 0; d < width; ++d) row[d] *= scale;
    }
  });
}

void Decoder::forward_mlp(WeightReader& weights, int index, LayerActivations& a, float* out) {
  const LayerSpec& layer = spec_.layers[static_cast<size_t>(index)];
  const int64_t d_model = spec_.d_model;
  const std::span<const float> before = weights.vector(TensorRole::kMlpNorm, index);
  a.mlp_input.clear();
  if (!before.empty()) norm(before, a.middle, a.mlp_input);
  const std::vector<float>& x = either(a.mlp_input, a.middle);
  const auto add_bias = [&](TensorRole role, std::vector<float>& y) {
    const std::span<const float> bias = weights.vector(role, index);
    for (size_t i = 0; i < y.size() && !bias.empty(); ++i) y[i] += bias[i % bias.size()];
  };
  linear(weights, TensorRole::kGateProj, index, x, d_model, layer.d_ff, a.gate);
  linear(weights, TensorRole::kUpProj, index, x, d_model, layer.d_ff, a.up);
  add_bias(TensorRole::kGateBias, a.gate);
  add_bias(TensorRole::kUpBias, a.up);
  auto* const activation = layer.activation == Activation::kSilu ? kernels_.silu_mul : kernels_.gelu_tanh_mul;
  a.active.resize(a.gate.size());
  for_rows(pool_, n_tokens_, [&](int64_t begin, int64_t end) {
    const int64_t at = begin * layer.d_ff;
    activation({a.gate.data() + at, a.up.data() + at, a.active.data() + at, (end - begin) * layer.d_ff});
  });
  linear(weights, TensorRole::kDownProj, index, a.active, layer.d_ff, d_model, branch_);
  add_bias(TensorRole::kDownBias, branch_);
  if (layer.mlp == MlpKind::kDualBranch) {
    linear(weights, TensorRole::kPlainUp, index, x, d_model, layer.d_ff_plain, a.plain);
    a.plain_active.resize(a.plain.size());
    activation({a.plain.data(), nullptr, a.plain_active.data(), static_cast<int64_t>(a.plain.size())});
    linear(weights, TensorRole::kPlainDown, index, a.plain_active, layer.d_ff_plain, d_model, d_branch_);
    kernels_.add({d_branch_.data(), branch_.data(), static_cast<int64_t>(branch_.size())});
  }
  const std::span<const float> post = weights.vector(TensorRole::kMlpPostNorm, index);
  a.mlp_output.clear();
  if (!post.empty()) {
    a.mlp_output = branch_;
    norm(post, a.mlp_output, branch_);
  }
  for_rows(pool_, n_tokens_, [&](int64_t begin, int64_t end) {
    const int64_t at = begin * d_model;
    std::copy_n(a.middle.data() + at, (end - begin) * d_model, out + at);
    kernels_.add({branch_.data() + at, out + at, (end - begin) * d_model});
  });
}

}  // namespace mobilellm
