/// Which storage each matrix gets under a limit of bits for all: a knapsack over predicted losses.
#pragma once

#include <span>
#include <vector>

namespace mobilellm {

/// One way to store a matrix.
struct StorageCost {
  double bits = 0;  ///< Of the whole matrix, scales included.
  double loss = 0;  ///< What it is predicted to cost; losses of matrices add up.
};

/// The option of each matrix with the least sum of losses whose bits stay within `budget`; the cheapest ones when
/// nothing does. Lagrangian: every matrix moves along the lower convex hull of its options, the best exchange of loss
/// for bits first. What the last exchange that does not fit leaves over goes to smaller ones, and every option of the
/// largest matrix, which leaves the largest rest, is tried. Every list must hold an option.
std::vector<int> allocate_bits(std::span<const std::vector<StorageCost>> matrices, double budget);

}  // namespace mobilellm
