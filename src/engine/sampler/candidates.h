/// The tokens that may still be chosen, while the sampling rules narrow them down.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/sampler/prefix_of_mass.h"

namespace mobilellm {

/// Starts as the whole vocabulary in order of ids, which penalties change by id. The first filter makes it a shrinking
/// list, still in order of ids. All storage is kept between uses. Double precision.
class Candidates {
 public:
  /// Throws kInternal when a logit is NaN or +infinity: the model's output is broken.
  void reset(std::span<const float> logits);

  /// Only before the first filter.
  double& logit_of(int32_t id) { return logits_[static_cast<size_t>(id)]; }
  void ban(int32_t id);

  size_t size() const { return size_; }
  int32_t id(size_t i) const { return is_list_ ? ids_[i] : static_cast<int32_t>(i); }
  double logit(size_t i) const { return logits_[i]; }
  std::span<const double> logits() const { return {logits_.data(), size_}; }
  /// Divides every logit.
  void scale(double temperature);

  /// exp(logit - largest logit) of each; probability = weight / total_weight(). Cheap after the first call.
  std::span<const double> weights();
  double total_weight();
  double max_weight();
  /// Index of the largest logit; the first of equal ones.
  size_t largest() const;

  /// Keeps the candidates i for which keep(i) is true.
  template <typename Keep>
  void keep_if(Keep keep) {
    if (!is_list_) start_list();
    size_t n = 0;
    for (size_t i = 0; i < size_; ++i) {
      if (!keep(i)) continue;
      ids_[n] = ids_[i];
      logits_[n] = logits_[i];
      if (has_weights_) weights_[n] = weights_[i];
      ++n;
    }
    size_ = n;
    total_ = -1;
  }
  /// Keeps those that the first n elements of scratch_ranked() name.
  void keep_ranked(size_t n);

  /// Room for a rule's own list, kept between uses.
  std::vector<RankedCandidate>& scratch_ranked() { return scratch_ranked_; }
  std::vector<double>& scratch_values() { return scratch_values_; }

 private:
  void start_list();

  std::vector<int32_t> ids_;
  std::vector<double> logits_;
  std::vector<double> weights_;
  std::vector<RankedCandidate> scratch_ranked_;
  std::vector<double> scratch_values_;
  size_t size_ = 0;
  double total_ = -1;  // Negative: not computed.
  bool is_list_ = false;
  bool has_weights_ = false;
};

}  // namespace mobilellm
