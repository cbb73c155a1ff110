// Storage and softmax of the candidates.
#include "engine/sampler/candidates.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/error.h"

namespace mobilellm {

void Candidates::reset(std::span<const float> logits) {
  size_ = logits.size();
  is_list_ = false;
  has_weights_ = false;
  total_ = -1;
  logits_.resize(std::max(logits_.size(), size_));
  bool is_broken = false;
  for (size_t i = 0; i < size_; ++i) {
    is_broken |= !(logits[i] < std::numeric_limits<float>::infinity());  // True for NaN, too.
    logits_[i] = logits[i];
  }
  if (is_broken) fail(ErrorCode::kInternal, "[sampler] the model's logits hold NaN or infinity");
}

void Candidates::ban(int32_t id) { logit_of(id) = -std::numeric_limits<double>::infinity(); }

void Candidates::scale(double temperature) {
  for (size_t i = 0; i < size_; ++i) logits_[i] /= temperature;
}

size_t Candidates::largest() const {
  size_t best = 0;
  for (size_t i = 1; i < size_; ++i) {
    if (logits_[i] > logits_[best]) best = i;
  }
  return best;
}

std::span<const double> Candidates::weights() {
  if (!has_weights_) {
    weights_.resize(std::max(weights_.size(), size_));
    const double max = size_ == 0 ? 0 : logits_[largest()];
    if (std::isinf(max)) fail(ErrorCode::kInvalidArgument, "[sampler] every token is forbidden by the sampling rules");
    for (size_t i = 0; i < size_; ++i) weights_[i] = std::exp(logits_[i] - max);
    has_weights_ = true;
  }
  return {weights_.data(), size_};
}

double Candidates::total_weight() {
  if (total_ < 0) {
    const auto w = weights();
    total_ = std::accumulate(w.begin(), w.end(), 0.0);
  }
  return total_;
}

double Candidates::max_weight() {
  const auto w = weights();
  return *std::max_element(w.begin(), w.end());
}

void Candidates::start_list() {
  if (ids_.size() < size_) ids_.resize(size_);
  std::iota(ids_.begin(), ids_.begin() + static_cast<std::ptrdiff_t>(size_), 0);
  is_list_ = true;
}

void Candidates::keep_indices(std::span<size_t> indices) {
  if (!is_list_) start_list();
  // Ascending order makes compaction in place safe and keeps the list in order of ids.
  std::sort(indices.begin(), indices.end());
  for (size_t n = 0; n < indices.size(); ++n) {
    const size_t i = indices[n];
    ids_[n] = ids_[i];
    logits_[n] = logits_[i];
    if (has_weights_) weights_[n] = weights_[i];
  }
  size_ = indices.size();
  total_ = -1;
}

}  // namespace mobilellm
