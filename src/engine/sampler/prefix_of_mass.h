/// Finds how much of an ordered list is needed to reach a probability mass, without sorting all of it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

namespace mobilellm {

/// A candidate in an order: smaller keys first, then smaller indices.
struct RankedCandidate {
  double key;
  double weight;
  size_t index;

  bool operator<(const RankedCandidate& other) const {
    return key != other.key ? key < other.key : index < other.index;
  }
};

/// Permutes `list` so that its first n elements are the shortest prefix in order whose weights sum to at least `mass`,
/// and returns n: at least 1 of a non-empty list, all when the mass is never reached.
/// Linear time: halves the part that holds the border, and sorts only its last few elements.
inline size_t prefix_of_mass(std::span<RankedCandidate> list, double mass) {
  constexpr size_t kSorted = 128;
  RankedCandidate* begin = list.data();
  RankedCandidate* end = begin + list.size();
  double before = 0;
  while (end - begin > static_cast<std::ptrdiff_t>(kSorted)) {
    RankedCandidate* middle = begin + (end - begin) / 2;
    std::nth_element(begin, middle, end);
    double upper = 0;
    for (const RankedCandidate* c = begin; c < middle; ++c) upper += c->weight;
    if (before + upper >= mass) {
      end = middle;
    } else {
      before += upper;
      begin = middle;
    }
  }
  std::sort(begin, end);
  for (; begin < end; ++begin) {
    before += begin->weight;
    if (before >= mass) return static_cast<size_t>(begin - list.data()) + 1;
  }
  return static_cast<size_t>(end - list.data());
}

}  // namespace mobilellm
