/// What one changed matrix does to a model: the divergence of its predictions on a few hundred tokens.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/tensor_table.h"
#include "quant/model_part.h"

namespace mobilellm {

class ThreadPool;

class LossMeter {
 public:
  /// Runs the model on the chunks and keeps its logits, n_tokens * vocab_size floats. Chunks hold tokens, fewer
  /// than the vocabulary. All arguments must outlive this.
  LossMeter(const ModelSpec& spec, const ModelWeights& weights, std::span<const std::vector<int32_t>> chunks,
            ThreadPool& pool);

  /// Mean KL(model || model with this matrix replaced) in nats per token, f32 arithmetic. Runs only the layers from
  /// this one on; calls must not go back to an earlier layer, but matrices of the whole model may come at any time.
  double measure(TensorRole role, int layer, const StoredMatrix& replacement);

 private:
  template <typename Visit>
  void for_logits(ModelPart part, Visit&& visit);
  double mean_divergence(ModelPart part);

  const ModelSpec& spec_;
  const ModelWeights& weights_;
  std::span<const std::vector<int32_t>> chunks_;
  ThreadPool& pool_;
  TextInLayers text_;
  std::vector<float> reference_;  // [n_tokens, vocab_size]
  std::vector<float> log_sums_;   // of its rows
};

}  // namespace mobilellm
