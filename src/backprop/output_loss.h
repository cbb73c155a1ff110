/// Losses over the vocabulary and their gradients, a slice of tokens at a time so that logits never lie in memory all
/// at once.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "backprop/matrix_product.h"
#include "backprop/weight_reader.h"
#include "model/spec.h"

namespace mobilellm {

class ThreadPool;

/// Labels that do not count.
inline constexpr int32_t kNoLabel = -100;

struct LossResult {
  double sum = 0;        ///< Over counted tokens, in nats.
  int64_t n_tokens = 0;  ///< Counted ones.
};

/// The output projection with a loss behind it. `hidden` is what Decoder::forward() writes, [n_tokens, d_model].
/// Gradients are those of factor * sum of losses; d_hidden [n_tokens, d_model] may be null to measure only. The
/// gradient of the table is added to `d_table` [vocab_size, d_model] unless null.
class OutputLoss {
 public:
  OutputLoss(const ModelSpec& spec, ThreadPool& pool);

  /// -log p(label); labels[t] is the token to predict at t, or kNoLabel.
  LossResult cross_entropy(WeightReader& weights, const float* hidden, std::span<const int32_t> labels, double factor,
                           float* d_hidden, float* d_table);
  /// -log p(y) with y drawn from the model's own p, by a number in [0, 1) per token: its gradients have the Fisher
  /// information as their covariance. `observe` sees the gradients of logits, [n, vocab_size] from token `first` on.
  LossResult sampled(WeightReader& weights, const float* hidden, std::span<const double> draws, double factor,
                     float* d_hidden, float* d_table,
                     const std::function<void(int64_t first, int64_t n, const float* d_logits)>& observe);
  /// A random sketch of the Fisher information: gradients of logits sqrt(p) o s - p (sqrt(p) . s), s a random sign for
  /// each token (numbered from `first_token` on) and word, have the covariance diag(p) - p p^T of sampled() with much
  /// lighter tails. `observe` as there. The losses are the entropies of p.
  LossResult sketched(WeightReader& weights, const float* hidden, int64_t n_tokens, uint64_t seed, uint64_t first_token,
                      float* d_hidden,
                      const std::function<void(int64_t first, int64_t n, const float* d_logits)>& observe);
  /// T^2 * KL(teacher || student) of logits divided by the temperature T. Both have the same vocabulary.
  LossResult divergence(WeightReader& teacher, const float* teacher_hidden, const ModelSpec& teacher_spec,
                        WeightReader& student, const float* hidden, std::span<const uint8_t> counts, double temperature,
                        double factor, float* d_hidden, float* d_table);

 private:
  template <typename RowLoss>
  LossResult run(WeightReader& weights, const float* hidden, int64_t n_tokens, float* d_hidden, float* d_table,
                 RowLoss row_loss);
  void compute_logits(WeightReader& weights, TensorRole role, const float* hidden, int64_t width, int64_t n,
                      std::vector<float>& logits);

  ModelSpec spec_;
  const KernelTable& kernels_;
  ThreadPool& pool_;
  MatrixProduct product_;
  std::vector<float> logits_, teacher_logits_, table_;
};

}  // namespace mobilellm
