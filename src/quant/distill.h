/// Distillation of a quantized model: training its grids, and codes, until it predicts what the float model does.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "model/spec.h"
#include "model/weights.h"
#include "quant/affine_student.h"

namespace mobilellm {

class ThreadPool;

struct DistillReport {
  double before = 0;  ///< Mean KL(float || quantized) on the held-out chunks, nats per token.
  double after = 0;
  int64_t best_step = 0;  ///< 0: training did not help, and the start was kept.
};

struct DistillOptions {
  int64_t n_steps = 0;          ///< distill() needs at least one.
  int64_t batch_tokens = 2048;  ///< Of one step; whole chunks.
  double grid_rate = 6e-3;      ///< Peak of StudentStep::grid_rate.
  double code_rate = 0;         ///< Peak of StudentStep::code_rate; 0 keeps the codes.
  uint64_t seed = 0;
  int64_t steps_per_check = 25;  ///< Steps between measurements on the held-out chunks.
  /// Called with steps done (a check counts as none) and the last measured divergence; may throw.
  std::function<void(int64_t steps, double held_out)> on_progress;
  /// Called when a check finds the student better than ever: its state and this report are enough to go on from there.
  std::function<void(const DistillReport&)> on_better;
  /// What on_better saw earlier; the student must have the state of that moment. The result is that of one run.
  std::optional<DistillReport> resumed;
};

/// Trains on chunks of token ids in an order drawn by the seed (again from the front when they run out), and returns
/// what was best on `held_out`, which may be empty: then the last state. Deterministic for a seed and any number of
/// threads. The loss is KL(float || quantized) of all logits at temperature 1.
AffineStudent::Snapshot distill(const ModelSpec& spec, const ModelWeights& teacher, AffineStudent& student,
                                const std::vector<std::vector<int32_t>>& train,
                                const std::vector<std::vector<int32_t>>& held_out, const DistillOptions& options,
                                ThreadPool& pool, DistillReport& report);

}  // namespace mobilellm
