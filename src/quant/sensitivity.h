/// How much a model's predictions suffer from errors in each matrix, measured by gradients at the float model.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "backprop/weight_reader.h"
#include "model/spec.h"
#include "model/weights.h"

namespace mobilellm {

class ThreadPool;

/// KL(float || changed) per token is about 1/2 sum over weights of F * error^2 for errors that know nothing of each
/// other, F the Fisher information: the mean over chunks of squared gradients of -log p(sampled tokens).
struct TensorSensitivity {
  TensorRole role;
  int layer;
  double total = 0;  ///< Sum of F over the matrix: noise of variance s costs s / 2 * total.
  /// [out]: mean square over tokens of d loss / d y[r], y = W x. Errors e of rows cost about 1/2 sum over r of
  /// rows[r] * e_r^T H e_r, H the mean of x x^T, as far as tokens act independently; those of keys and values, and of
  /// early layers, do not and cost more, so `total` compares matrices, `rows` the rows of one.
  std::vector<float> rows;
};

/// In the order of matrices_of(). Runs every chunk of token ids forward and backward, each a sequence of its own.
/// Deterministic for a seed, for any number of threads. `on_progress` (may be empty) may throw.
std::vector<TensorSensitivity> tensor_sensitivities(const ModelSpec& spec, const ModelWeights& weights,
                                                    const std::vector<std::vector<int32_t>>& chunks, uint64_t seed,
                                                    ThreadPool& pool, const std::function<void(double)>& on_progress);

}  // namespace mobilellm
