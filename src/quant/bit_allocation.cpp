// A greedy walk along convex hulls.
#include "quant/bit_allocation.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "base/error.h"

namespace mobilellm {
namespace {

// One matrix leaves option `from` for `to`, the next on its hull.
struct Exchange {
  size_t matrix;
  int to;
  double bits;
  double gain;  // loss saved per bit
};

// Options on the lower convex hull of (bits, loss), from the cheapest to the one of least loss.
std::vector<int> convex_hull(const std::vector<StorageCost>& options) {
  std::vector<int> order(options.size());
  std::iota(order.begin(), order.end(), 0);
  const auto at = [&](int index) -> const StorageCost& { return options[static_cast<size_t>(index)]; };
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
    return at(a).bits != at(b).bits ? at(a).bits < at(b).bits : at(a).loss < at(b).loss;
  });
  std::vector<int> hull;
  for (const int next : order) {
    if (!hull.empty() && at(next).loss >= at(hull.back()).loss) continue;
    while (hull.size() >= 2) {
      const StorageCost& a = at(hull[hull.size() - 2]);
      const StorageCost& b = at(hull.back());
      if ((a.loss - b.loss) * (at(next).bits - b.bits) > (b.loss - at(next).loss) * (b.bits - a.bits)) break;
      hull.pop_back();
    }
    hull.push_back(next);
  }
  return hull;
}

struct Allocation {
  std::vector<int> choices;
  double bits = 0;
  double loss = 0;
};

// `fixed` stays at its choice.
Allocation walk_hulls(std::span<const std::vector<StorageCost>> matrices, const std::vector<std::vector<int>>& hulls,
                      double budget, size_t fixed, int fixed_choice) {
  Allocation result;
  std::vector<Exchange> exchanges;
  for (size_t m = 0; m < matrices.size(); ++m) {
    const std::vector<int>& hull = hulls[m];
    const auto at = [&](int index) -> const StorageCost& { return matrices[m][static_cast<size_t>(index)]; };
    result.choices.push_back(m == fixed ? fixed_choice : hull.front());
    result.bits += at(result.choices[m]).bits;
    result.loss += at(result.choices[m]).loss;
    for (size_t i = 1; m != fixed && i < hull.size(); ++i) {
      const double bits = at(hull[i]).bits - at(hull[i - 1]).bits;
      exchanges.push_back({m, hull[i], bits, (at(hull[i - 1]).loss - at(hull[i]).loss) / bits});
    }
  }
  // Gains fall along a hull, so a matrix's exchanges come in their order.
  std::stable_sort(exchanges.begin(), exchanges.end(),
                   [](const Exchange& a, const Exchange& b) { return a.gain > b.gain; });
  std::vector<bool> is_stuck(matrices.size());
  for (const Exchange& exchange : exchanges) {
    if (is_stuck[exchange.matrix]) continue;
    if (result.bits + exchange.bits > budget) {
      is_stuck[exchange.matrix] = true;
      continue;
    }
    int& choice = result.choices[exchange.matrix];
    const std::vector<StorageCost>& options = matrices[exchange.matrix];
    result.loss += options[static_cast<size_t>(exchange.to)].loss - options[static_cast<size_t>(choice)].loss;
    result.bits += exchange.bits;
    choice = exchange.to;
  }
  return result;
}

}  // namespace

std::vector<int> allocate_bits(std::span<const std::vector<StorageCost>> matrices, double budget) {
  if (matrices.empty()) return {};
  std::vector<std::vector<int>> hulls;
  size_t largest = 0;
  for (size_t m = 0; m < matrices.size(); ++m) {
    MOBILELLM_CHECK(!matrices[m].empty());
    hulls.push_back(convex_hull(matrices[m]));
    if (matrices[m].front().bits > matrices[largest].front().bits) largest = m;
  }
  Allocation best;
  best.loss = std::numeric_limits<double>::infinity();
  for (const int choice : hulls[largest]) {
    Allocation candidate = walk_hulls(matrices, hulls, budget, largest, choice);
    const bool is_first = best.choices.empty();
    if (is_first || (candidate.bits <= budget && candidate.loss < best.loss)) best = std::move(candidate);
  }
  return best.choices;
}

}  // namespace mobilellm
