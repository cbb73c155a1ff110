/// The native CPU backend: one transformer block for every architecture, f32 arithmetic, weights read where they lie.
#pragma once

#include <memory>

#include "backend/backend.h"
#include "model/weights.h"

namespace mobilellm {

/// Uses the kernels of select_isa() and options.n_threads threads.
std::unique_ptr<Runner> create_cpu_runner(const ModelSpec& spec, ModelWeights weights, const RunnerOptions& options);

}  // namespace mobilellm
