/// Some layers of a model as a model of their own, fed with a residual stream instead of token ids: a long text passes
/// the model one layer at a time, and a changed layer is tried without running those before it.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "backprop/weight_reader.h"
#include "model/tensor_table.h"
#include "model/weights.h"

namespace mobilellm {

/// matrix_of() to be replaced.
StoredMatrix& replaceable_matrix(ModelWeights& weights, TensorRole role, int layer);

struct ModelPart {
  ModelSpec spec;
  ModelWeights weights;
};

/// Layers [begin, end) of a model. Token id i stands for row i of `hidden` [n_rows, d_model], the residual stream
/// before layer `begin`, which must live as long as the part. With a head the logits are the model's, and n_rows must
/// not exceed its vocabulary; without one the part has no logits.
ModelPart take_layers(const ModelSpec& spec, const ModelWeights& weights, int begin, int end,
                      std::span<const float> hidden, bool has_head);

/// Chunks of token ids, each a sequence of its own, on their way through the layers.
class TextInLayers {
 public:
  /// Looks the embeddings up. `spec`, `weights` and the ids must outlive this. Throws kInvalidArgument for ids outside
  /// the vocabulary.
  TextInLayers(const ModelSpec& spec, const ModelWeights& weights, std::span<const std::vector<int32_t>> chunks,
               int n_threads);

  /// Layers passed so far.
  int layer() const { return layer_; }
  int64_t n_tokens() const;
  /// [n_tokens, d_model]: chunk after chunk, before layer().
  std::span<const float> hidden() const { return hidden_; }
  /// First row of each chunk, and n_tokens at the end.
  std::span<const int64_t> first_rows() const { return first_rows_; }
  /// Runs layer(), and after the last one the final norm. The observer (may be empty) is told the layer's number in the
  /// whole model. `on_chunk` (may be empty) is called before each chunk and may throw.
  void advance(const Runner::InputObserver& observer, const std::function<void(size_t chunk)>& on_chunk = {});

 private:
  const ModelSpec& spec_;
  const ModelWeights& weights_;
  int n_threads_;
  int layer_ = 0;
  std::vector<float> hidden_;
  std::vector<int64_t> first_rows_;
};

}  // namespace mobilellm
