/// A model of a given shape whose weights are random: for measurements, since speed does not depend on the values.
#pragma once

#include <cstdint>

#include "base/thread_pool.h"
#include "codec/random_values.h"
#include "model/arch/registry.h"
#include "model/weights.h"

namespace mobilellm {

struct RandomWeightsOptions {
  StorageFormat format;       ///< Of the matrices inside the blocks.
  StorageFormat head_format;  ///< Of the embedding table and the output projection.
  uint64_t seed = 0;
};

/// Matrices have standard deviation 1 / sqrt(columns) and norms are one, so hidden states and logits keep the size that
/// trained models give them. The same bits for the same seed, whatever the number of threads.
/// Throws kInvalidArgument when a matrix's rows are no multiple of the format's block.
ModelWeights make_random_weights(const ModelDescription& description, const RandomWeightsOptions& options,
                                 ThreadPool& pool);

}  // namespace mobilellm
