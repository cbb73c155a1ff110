/// A model under test: loads it, runs token sequences through a backend, and reads golden tensors.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "backend/registry.h"
#include "base/json.h"
#include "formats/safetensors.h"
#include "model/loader.h"

namespace mobilellm {

/// Folder of this test's data.
std::string golden_path(const std::string& name);
/// Names of the entries of a golden folder that end with `suffix`, sorted, without the suffix; folders for "/".
std::vector<std::string> list_golden(const std::string& folder, const std::string& suffix);

/// i64 or i32 ids.
std::vector<int32_t> read_ids(const WeightSource& source, const std::string& name);
std::vector<int32_t> to_ids(const Json& list);
std::vector<double> to_numbers(const Json& list);

/// One sequence in a backend's cache, fed in pieces.
struct GoldenSequence {
  std::vector<int32_t> tokens;
  std::vector<int32_t> pages;
  int64_t n_done = 0;
  std::vector<float> logits;  ///< Of every token fed so far, [n_done, vocab_size].
};

class GoldenModel {
 public:
  /// Exact arithmetic with keys and values as f32 unless told otherwise.
  explicit GoldenModel(const std::string& path, int n_threads = 1, KvDtype kv_dtype = KvDtype::kF32,
                       bool is_exact = true);

  const LoadedModel& loaded() const { return loaded_; }
  Runner& runner() { return *runner_; }
  size_t vocab_size() const { return static_cast<size_t>(loaded_.spec.vocab_size); }

  /// A sequence with pages of its own for `max_tokens` positions, in descending order of ids so that no code can take
  /// pages for consecutive.
  GoldenSequence start(std::vector<int32_t> tokens, size_t max_tokens = 0);
  /// Feeds the next tokens of several sequences in one batch: counts[i] of sequences[i].
  void feed(std::span<GoldenSequence*> sequences, std::span<const size_t> counts);

  /// Logits of every position [n, vocab_size], fed `chunk` tokens at a time (0: all at once).
  std::vector<float> logits(const std::vector<int32_t>& ids, size_t chunk = 0);
  /// Greedy continuation of exactly `n` tokens, stopping early at an id of `stops`, which is included.
  std::vector<int32_t> greedy(const std::vector<int32_t>& prompt, size_t n, std::span<const int64_t> stops = {});
  /// log p(continuation[i] | context, continuation[..i]), softmax in double.
  std::vector<double> log_probabilities(const std::vector<int32_t>& context, const std::vector<int32_t>& continuation);

 private:
  LoadedModel loaded_;
  std::unique_ptr<Runner> runner_;
  int n_pages_ = 0;
};

/// log-softmax(row)[id] in double.
double log_probability(std::span<const float> row, int32_t id);
double log_sum_exp(std::span<const float> row);
/// KL(expected || got) of two rows of logits.
double kl_divergence(std::span<const float> expected, std::span<const float> got);
int32_t argmax(std::span<const float> row);

/// Largest absolute difference and where it is; sizes must be equal. NaN counts as infinite.
struct Difference {
  double value = 0;
  size_t index = 0;
};
Difference max_difference(std::span<const float> got, std::span<const float> expected);

}  // namespace mobilellm
