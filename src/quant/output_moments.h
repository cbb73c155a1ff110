/// What backward passes know about the outputs of linear layers: second moments of the gradients of sampled labels.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <utility>
#include <vector>

#include "model/spec.h"
#include "model/tensor_table.h"
#include "model/weights.h"
#include "quant/input_moments.h"

namespace mobilellm {

class ThreadPool;

/// For every matrix but the tables the mean over tokens of g g^T, g the gradient of -log p(sampled labels) by the
/// matrix's output: the output side of the Fisher information when it is taken as a Kronecker product. Matrices of more
/// than 1536 rows are split into blocks of rows as if these were independent.
class OutputMoments {
 public:
  /// Runs every chunk of token ids forward and backward, each a sequence of its own. Deterministic for a seed, for any
  /// number of threads. `on_progress` (may be empty) may throw.
  OutputMoments(const ModelSpec& spec, const ModelWeights& weights, const std::vector<std::vector<int32_t>>& chunks,
                uint64_t seed, ThreadPool& pool, const std::function<void(double)>& on_progress);

  /// The blocks of a matrix's rows, in their order; empty for tables.
  std::span<const InputMoments> of(TensorRole role, int layer) const;

 private:
  std::map<std::pair<TensorRole, int>, std::vector<InputMoments>> moments_;
};

/// As many of the chunks, evenly from all, as are worth their time: more for smaller models.
std::vector<std::vector<int32_t>> output_moment_chunks(const ModelSpec& spec,
                                                       const std::vector<std::vector<int32_t>>& chunks);

}  // namespace mobilellm
