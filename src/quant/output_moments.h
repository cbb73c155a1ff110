/// What backward passes know about the outputs of linear layers: second moments of gradients.
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

/// For every matrix but the tables the mean over tokens of g g^T / |g|, g the gradient by the matrix's output of a
/// random sketch of the model's predictions (OutputLoss::sketched: sampled labels have the same moments in the limit,
/// but a few of them outweigh all others). Without the division it is the output side of the Fisher information, taken
/// as a Kronecker product; with it tokens with long gradients count less (docs/log.md). Matrices of more
/// than 1536 rows are split into blocks of rows as if these were independent.
class OutputMoments {
 public:
  /// Runs every chunk of token ids forward and backward, each a sequence of its own. Deterministic for a seed, for any
  /// number of threads. `on_progress` (may be empty) may throw.
  OutputMoments(const ModelSpec& spec, const ModelWeights& weights, const std::vector<std::vector<int32_t>>& chunks,
                uint64_t seed, ThreadPool& pool, const std::function<void(double)>& on_progress);

  /// The blocks of a matrix's rows, in their order; empty for tables.
  std::span<const InputMoments> of(TensorRole role, int layer) const;
  /// Of what the output table reads, h: the mean over tokens of |d|^2 h h^T, d the gradient by the logits, so that
  /// tokens count by what errors there change. A tied table's use as embedding adds the moments of its gradients.
  const InputMoments& table() const { return table_; }

 private:
  InputMoments table_;
  std::map<std::pair<TensorRole, int>, std::vector<InputMoments>> moments_;
};

/// As many of the chunks, evenly from all, as are worth their time: more for smaller models.
std::vector<std::vector<int32_t>> output_moment_chunks(const ModelSpec& spec,
                                                       const std::vector<std::vector<int32_t>>& chunks);

}  // namespace mobilellm
