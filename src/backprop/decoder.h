/// A decoder for training: hidden states of token sequences in f32, and the gradients of everything before them.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <utility>
#include <vector>

#include "backprop/causal_attention.h"
#include "backprop/matrix_product.h"
#include "backprop/row_gradients.h"
#include "backprop/weight_reader.h"
#include "model/spec.h"

namespace mobilellm {

class ThreadPool;

/// Sequences one after the other, each with positions from 0 and blind to the others.
struct TokenBatch {
  std::span<const int32_t> tokens;
  std::span<const int64_t> lengths;  ///< Of the sequences, each >= 1; their sum is tokens.size().
};

/// What a layer's backward pass reads; [n_tokens, width] each.
struct LayerActivations {
  std::vector<float> input;             ///< The residual stream.
  std::vector<float> attention_input;   ///< Normed; empty without a norm before attention.
  std::vector<float> q_raw, k_raw;      ///< Before norm and rotation; empty without QK-norm.
  std::vector<float> q, k, v;           ///< As attention reads them; queries are scaled.
  std::vector<float> attended;          ///< What o_proj reads.
  std::vector<float> attention_output;  ///< Before its norm; empty without one.
  std::vector<float> middle;            ///< The residual stream between attention and MLP.
  std::vector<float> mlp_input;         ///< Normed; empty without a norm before the MLP.
  std::vector<float> gate, up, active;  ///< active: what down_proj reads.
  std::vector<float> plain, plain_active;
  std::vector<float> mlp_output;  ///< Before its norm; empty without one.
};

/// The blocks and the final norm of a model. Not thread-safe; results depend on inputs and weights alone, for any
/// number of threads and instruction set.
class Decoder {
 public:
  /// `recomputes`: keep the inputs of layers only and compute the rest again in backward(), the same bits for a third
  /// more work. `pool` must stay.
  Decoder(const ModelSpec& spec, bool recomputes, ThreadPool& pool);

  /// Writes what the output projection reads, [n_tokens, d_model]. With `keeps`, backward() may follow. Throws
  /// kInvalidArgument for token ids outside the vocabulary.
  void forward(WeightReader& weights, const TokenBatch& batch, bool keeps, float* out);
  /// Sees what every matrix reads during forward(), [n_tokens, width]; may throw. Not the output projection.
  using InputObserver =
      std::function<void(TensorRole role, int layer, const float* x, int64_t n_tokens, int64_t width)>;
  void set_input_observer(InputObserver observer) { observer_ = std::move(observer); }
  /// Gradients from those of forward()'s result, [n_tokens, d_model], with the same weights. Part of the table of a
  /// tied model's gradient comes from here: see GradientSink::embedding_gradient().
  void backward(WeightReader& weights, const float* d_out, GradientSink& sink);

 private:
  struct Sequence {
    int64_t begin;
    int64_t length;
  };

  void forward_layer(WeightReader& weights, int index, LayerActivations& a, float* out);
  void forward_attention(WeightReader& weights, int index, LayerActivations& a);
  void forward_mlp(WeightReader& weights, int index, LayerActivations& a, float* out);
  void backward_layer(WeightReader& weights, int index, const LayerActivations& a, GradientSink& sink);
  void backward_attention(WeightReader& weights, int index, const LayerActivations& a, GradientSink& sink);
  void backward_mlp(WeightReader& weights, int index, const LayerActivations& a, GradientSink& sink);
  void backward_heads(const LayerSpec& layer, std::span<const float> weight, const std::vector<float>& raw, int n_heads,
                      bool is_query, std::vector<float>& d_heads, std::vector<float>& d_weight);
  void prepare_heads(const LayerSpec& layer, std::span<const float> weight, int n_heads, bool is_query,
                     std::vector<float>& heads);

  void linear(WeightReader& weights, TensorRole role, int layer, const std::vector<float>& x, int64_t in, int64_t out,
              std::vector<float>& y);
  void linear_backward(WeightReader& weights, GradientSink& sink, TensorRole role, int layer,
                       const std::vector<float>& x, int64_t in, int64_t out, const std::vector<float>& d_y,
                       std::vector<float>& d_x, bool accumulates);
  void norm(std::span<const float> weight, const std::vector<float>& x, std::vector<float>& y);
  void norm_backward(GradientSink& sink, TensorRole role, int layer, std::span<const float> weight,
                     const std::vector<float>& x, const float* d_y, std::vector<float>& d_x, bool accumulates);
  float query_scale(const LayerSpec& layer, int64_t pos) const;
  size_t floats(int64_t width) const { return static_cast<size_t>(n_tokens_ * width); }

  ModelSpec spec_;
  InputObserver observer_;
  bool recomputes_;
  const KernelTable& kernels_;
  ThreadPool& pool_;
  MatrixProduct product_;
  std::vector<Rotation> rotations_;
  std::vector<AttentionWorkspace> workspaces_;
  int64_t n_tokens_ = 0;
  int64_t rotated_positions_ = 0;
  std::vector<int32_t> tokens_;
  std::vector<Sequence> sequences_;
  std::vector<int64_t> positions_;
  std::vector<LayerActivations> layers_;
  LayerActivations shared_;
  std::vector<float> last_hidden_;
  // Buffers of the passes.
  std::vector<float> matrix_, gradient_, branch_, d_hidden_, d_branch_, d_input_, d_q_, d_k_, d_v_, d_attended_;
  std::vector<float> d_gate_, d_up_, d_active_, partial_;
};

}  // namespace mobilellm
