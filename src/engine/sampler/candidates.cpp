// Storage and softmax of the candidates.
#include "engine/sampler/candidates.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/error.h"
#include "engine/sampler/fast_exp.h"

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

namespace {

// Independent accumulators, so that loops are not one chain of dependent operations.
constexpr size_t kLanes = 8;

double max_of(std::span<const double> values) {
  std::array<double, kLanes> max;
  max.fill(-std::numeric_limits<double>::infinity());
  const size_t whole = values.size() / kLanes * kLanes;
  for (size_t i = 0; i < whole; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) max[lane] = std::max(max[lane], values[i + lane]);
  }
  for (size_t i = whole; i < values.size(); ++i) max[0] = std::max(max[0], values[i]);
  return *std::max_element(max.begin(), max.end());
}

double min_of(std::span<const double> values) {
  std::array<double, kLanes> min;
  min.fill(std::numeric_limits<double>::infinity());
  const size_t whole = values.size() / kLanes * kLanes;
  for (size_t i = 0; i < whole; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) min[lane] = std::min(min[lane], values[i + lane]);
  }
  for (size_t i = whole; i < values.size(); ++i) min[0] = std::min(min[0], values[i]);
  return *std::min_element(min.begin(), min.end());
}

double sum_of(std::span<const double> values) {
  std::array<double, kLanes> sum{};
  const size_t whole = values.size() / kLanes * kLanes;
  for (size_t i = 0; i < whole; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) sum[lane] += values[i + lane];
  }
  for (size_t i = whole; i < values.size(); ++i) sum[0] += values[i];
  return std::accumulate(sum.begin(), sum.end(), 0.0);
}

}  // namespace

size_t Candidates::largest() const {
  const auto values = logits();
  return static_cast<size_t>(std::find(values.begin(), values.end(), max_of(values)) - values.begin());
}

std::span<const double> Candidates::weights() {
  if (!has_weights_) {
    weights_.resize(std::max(weights_.size(), size_));
    const double max = max_of(logits());
    if (std::isinf(max)) fail(ErrorCode::kInvalidArgument, "[sampler] every token is forbidden by the sampling rules");
    const double* x = logits_.data();
    double* w = weights_.data();
    const size_t n = size_;
    if (min_of(logits()) - max >= kLowestExponent) {
      for (size_t i = 0; i < n; ++i) w[i] = exp_in_range(x[i] - max);
    } else {
      for (size_t i = 0; i < n; ++i) w[i] = exp_nonpositive(x[i] - max);
    }
    has_weights_ = true;
  }
  return {weights_.data(), size_};
}

double Candidates::total_weight() {
  if (total_ < 0) total_ = sum_of(weights());
  return total_;
}

double Candidates::max_weight() { return max_of(weights()); }

void Candidates::start_list() {
  if (ids_.size() < size_) ids_.resize(size_);
  std::iota(ids_.begin(), ids_.begin() + static_cast<std::ptrdiff_t>(size_), 0);
  is_list_ = true;
}

void Candidates::keep_ranked(size_t n) {
  if (!is_list_) start_list();
  const auto kept = std::span(scratch_ranked_).first(n);
  // Ascending order makes compaction in place safe and keeps the list in order of ids.
  std::sort(kept.begin(), kept.end(), [](const auto& a, const auto& b) { return a.index < b.index; });
  for (size_t to = 0; to < n; ++to) {
    const size_t from = kept[to].index;
    ids_[to] = ids_[from];
    logits_[to] = logits_[from];
    if (has_weights_) weights_[to] = weights_[from];
  }
  size_ = n;
  total_ = -1;
}

}  // namespace mobilellm
