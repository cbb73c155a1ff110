/// Means with standard errors, and percentiles.
#pragma once

#include <cstdint>
#include <vector>

namespace mobilellm {

struct Estimate {
  double mean = 0;
  double error = 0;  ///< Standard error of the mean.
};

/// The mean of values that come in clusters: tokens of one chunk resemble each other, so the standard error is that of
/// independent chunks (ratio estimator for clusters of unequal size). A single cluster has nothing to compare with; its
/// values count as independent then.
class ClusteredMean {
 public:
  void add(double value);
  void end_cluster();
  int64_t n_values() const { return n_values_; }
  /// Zeros without values. Clusters that have not ended are not in it.
  Estimate estimate() const;

 private:
  // Of the open cluster.
  double cluster_sum_ = 0;
  int64_t cluster_size_ = 0;
  // Of all clusters: sums of values, their squares, and products of the clusters' sums and sizes.
  double sum_ = 0;
  double squares_ = 0;
  double open_squares_ = 0;
  double sum_sum_ = 0;
  double sum_size_ = 0;
  double size_size_ = 0;
  int64_t n_values_ = 0;
  int64_t n_clusters_ = 0;
};

/// The value that a share `fraction` (0 to 1) of the values does not exceed, between neighbours linearly; 0 for none.
/// Reorders the values.
double percentile(std::vector<float>& values, double fraction);

}  // namespace mobilellm
