// Means of clustered values, percentiles.
#include "quality/estimate.h"

#include <algorithm>
#include <cmath>

namespace mobilellm {

void ClusteredMean::add(double value) {
  cluster_sum_ += value;
  open_squares_ += value * value;
  ++cluster_size_;
}

void ClusteredMean::end_cluster() {
  if (cluster_size_ == 0) return;
  const auto size = static_cast<double>(cluster_size_);
  sum_ += cluster_sum_;
  squares_ += open_squares_;
  sum_sum_ += cluster_sum_ * cluster_sum_;
  sum_size_ += cluster_sum_ * size;
  size_size_ += size * size;
  n_values_ += cluster_size_;
  ++n_clusters_;
  cluster_sum_ = 0;
  open_squares_ = 0;
  cluster_size_ = 0;
}

Estimate ClusteredMean::estimate() const {
  if (n_values_ == 0) return {};
  const auto n = static_cast<double>(n_values_);
  const double mean = sum_ / n;
  if (n_clusters_ == 1) {
    if (n_values_ == 1) return {mean, 0};
    return {mean, std::sqrt(std::max(squares_ / n - mean * mean, 0.0) / (n - 1))};
  }
  // Sum over clusters of (sum - mean * size)^2.
  const double scatter = std::max(sum_sum_ - 2 * mean * sum_size_ + mean * mean * size_size_, 0.0);
  const auto clusters = static_cast<double>(n_clusters_);
  return {mean, std::sqrt(scatter * clusters / (clusters - 1)) / n};
}

double percentile(std::vector<float>& values, double fraction) {
  if (values.empty()) return 0;
  const double place = std::clamp(fraction, 0.0, 1.0) * static_cast<double>(values.size() - 1);
  const auto low = static_cast<size_t>(place);
  const auto nth = values.begin() + static_cast<std::ptrdiff_t>(low);
  std::nth_element(values.begin(), nth, values.end());
  const double value = static_cast<double>(*nth);
  if (low + 1 == values.size()) return value;
  const auto next = static_cast<double>(*std::min_element(nth + 1, values.end()));
  return value + (place - static_cast<double>(low)) * (next - value);
}

}  // namespace mobilellm
