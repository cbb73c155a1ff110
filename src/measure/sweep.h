/// Speed tests of a runner: prefill and decode at depths and batch sizes, and what each of them must read and compute.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "model/weights.h"

namespace mobilellm {

/// One test. Prefill passes n_tokens tokens of one sequence at once; decode passes one token of every sequence
/// n_tokens times.
struct SweepTest {
  bool is_prefill = false;
  int n_tokens = 0;
  int depth = 0;          ///< Tokens that each sequence has of its own before the test.
  int n_sequences = 1;    ///< Decode only.
  int shared_prompt = 0;  ///< Tokens before those, in pages that all sequences share; 0 for one sequence.

  std::string name() const;  ///< "pp512", "tg64", "tg64@4096", "tg64x16"
  int64_t total_tokens() const { return int64_t{n_tokens} * n_sequences; }
};

/// What one run of a test needs at least, whatever the implementation does.
struct SweepCost {
  double weight_bytes = 0;  ///< Every weight once per forward pass, as stored.
  double kv_bytes = 0;      ///< Visible keys and values once per forward pass, those of shared pages once for all.
  double operations = 0;    ///< A multiplication and an addition are two.

  double bytes() const { return weight_bytes + kv_bytes; }
};

/// Sizes of a model that costs follow from.
struct ModelCost {
  int64_t block_parameters = 0;  ///< Of the matrices in the blocks.
  int64_t head_parameters = 0;   ///< Of the output projection.
  int64_t weight_bytes = 0;      ///< Both, as stored.
};
ModelCost model_cost(const ModelWeights& weights);

/// `page_tokens` decides how much of a shared prompt lies in shared pages.
SweepCost sweep_cost(const SweepTest& test, const ModelCost& model, const ModelSpec& spec, size_t kv_bytes_per_token,
                     int page_tokens);

/// Runs tests on one runner. Earlier positions are made by a prefill of at most 512 random tokens, whose pages are then
/// copied: depth costs memory, not time, and keys and values stay like real ones.
class Sweep {
 public:
  /// Reserves every page that the tests need and writes it once. The runner must outlive this.
  Sweep(Runner& runner, std::vector<SweepTest> tests, uint64_t seed);

  const std::vector<SweepTest>& tests() const { return tests_; }
  /// Seconds that a run of the test took. `max_tokens` shortens it, for warming up.
  double run(const SweepTest& test, int max_tokens);

 private:
  std::vector<int32_t> chain(int n_tokens) const;
  double run_prefill(const SweepTest& test, int n_tokens);
  double run_decode(const SweepTest& test, int n_tokens);

  Runner& runner_;
  std::vector<SweepTest> tests_;
  uint64_t seed_;
  int page_tokens_;
  int chain_pages_ = 0;  // Pages [0, chain_pages_) hold earlier positions; tests write to those after them only.
  std::vector<float> logits_;
};

}  // namespace mobilellm
