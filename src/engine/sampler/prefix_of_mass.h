/// Finds how much of an ordered list is needed to reach a probability mass, without sorting all of it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>

namespace mobilellm {

/// Permutes `order` so that its first n elements are the shortest prefix, in the order of `less` (a strict total
/// order), whose weights sum to at least `mass`, and returns n: at least 1, all when the mass is never reached. Linear
/// time: halves the part that holds the border, and sorts only its last few elements.
template <typename Less, typename Weight>
size_t prefix_of_mass(std::span<size_t> order, double mass, Less less, Weight weight) {
  constexpr size_t kSorted = 128;
  size_t begin = 0;
  size_t end = order.size();
  double before = 0;
  while (end - begin > kSorted) {
    const size_t middle = begin + (end - begin) / 2;
    const auto first = order.begin();
    std::nth_element(first + static_cast<std::ptrdiff_t>(begin), first + static_cast<std::ptrdiff_t>(middle),
                     first + static_cast<std::ptrdiff_t>(end), less);
    double upper = 0;
    for (size_t i = begin; i < middle; ++i) upper += weight(order[i]);
    if (before + upper >= mass) {
      end = middle;
    } else {
      before += upper;
      begin = middle;
    }
  }
  std::sort(order.begin() + static_cast<std::ptrdiff_t>(begin), order.begin() + static_cast<std::ptrdiff_t>(end), less);
  for (size_t i = begin; i < end; ++i) {
    before += weight(order[i]);
    if (before >= mass) return i + 1;
  }
  return std::max<size_t>(end, order.empty() ? 0 : 1);
}

}  // namespace mobilellm
