/// Calibration: a float model reads text, and the moments of every linear layer's input are kept.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <utility>
#include <vector>

#include "model/spec.h"
#include "model/tensor_table.h"
#include "model/weights.h"
#include "quant/input_moments.h"

namespace mobilellm {

class ThreadPool;

/// The inputs that linear layers of a block read, and that of the head.
enum class LinearInput : uint8_t {
  kAttention,        ///< q_proj, k_proj, v_proj
  kAttentionOutput,  ///< o_proj
  kMlp,              ///< gate_proj, up_proj, plain_up
  kMlpDown,          ///< down_proj
  kPlainDown,        ///< plain_down
  kHead,             ///< lm_head, or the embedding table that serves as one
};

/// Which input a matrix reads; kHead for the output table and, in tied models, the embedding table.
LinearInput input_of(TensorRole role);

class ModelMoments {
 public:
  /// `is_full`: all products of inputs, for GPTQ, instead of their squares: 2 * width^2 bytes for each input.
  ModelMoments(const ModelSpec& spec, bool is_full);

  /// Runs chunks of token ids, each a sequence of its own, and adds up what the layers read. `on_progress` (may be
  /// empty) is called with the share that is done and may throw.
  void collect(const ModelSpec& spec, const ModelWeights& weights, const std::vector<std::vector<int32_t>>& chunks,
               ThreadPool& pool, const std::function<void(double)>& on_progress);

  /// Of the input that a matrix reads; layer as in TensorEntry.
  const InputMoments& of(TensorRole role, int layer) const;
  int64_t n_tokens() const { return n_tokens_; }

 private:
  int n_layers_;
  int64_t n_tokens_ = 0;
  std::map<std::pair<int, LinearInput>, InputMoments> moments_;
};

}  // namespace mobilellm
