/// Finds where the last tokens of a text were said before: in the same text, or in another that begins with its prompt.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace mobilellm {

/// A set of texts stored as a tree of tokens: the texts of several samples share the nodes of their prompt. Each token
/// costs a constant number of operations, whatever the tokens are. Not thread-safe.
class LookupIndex {
 public:
  /// Names one token of one text.
  using Place = uint32_t;
  static constexpr Place kNowhere = 0;
  /// Longer runs of equal tokens count as this long.
  static constexpr int kLongestMatch = 32;

  struct Match {
    Place place = kNowhere;  ///< The last equal token; next() of it is what followed there.
    int length = 0;          ///< How many tokens up to there are equal; 0 = nothing was found.
  };

  LookupIndex();

  /// Adds a token to the text that ends in `last` (kNowhere: it begins a text) and returns its place.
  Place append(Place last, int32_t token);

  /// The longest earlier run that equals the end of the text at `place` and that something followed; of equally long
  /// ones the latest. Later calls find the text at `place` itself, too.
  Match find_and_insert(Place place);

  int32_t token(Place place) const { return nodes_[place].token; }
  /// The token that first followed; kNowhere when none has.
  Place next(Place place) const { return nodes_[place].next; }

 private:
  struct Node {
    int32_t token;
    Place previous;
    Place next;
  };
  // Where a run of tokens was seen: the two latest times.
  struct Slot {
    uint64_t key = 0;  // 0: free.
    Place latest = kNowhere;
    Place earlier = kNowhere;
  };
  // Runs of these lengths can be found; longer equality is found by looking back from there.
  static constexpr std::array<int, 4> kRuns = {1, 2, 4, 8};

  Slot* slot_for(uint64_t key);
  void grow();
  int equal_length(Place a, Place b) const;

  std::vector<Node> nodes_;  // nodes_[kNowhere] is nothing.
  std::vector<Slot> slots_;  // A power of two of them.
  size_t n_keys_ = 0;
};

}  // namespace mobilellm
