/// Foretells the next tokens of one text from what followed the same words before.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "engine/speculation/lookup_index.h"

namespace mobilellm {

/// Follows one text token by token and keeps the longest match with what was said before. A copy follows another text
/// that goes on from here.
class LookupMatch {
 public:
  /// The index is shared with other texts that begin with the same prompt.
  explicit LookupMatch(std::shared_ptr<LookupIndex> index) : index_(std::move(index)) {}

  /// What the match said about a token that came.
  struct Foretold {
    int length = 0;  ///< Equal tokens before it.
    bool is_right = false;
  };
  /// The text goes on. Nothing when no token was foretold.
  std::optional<Foretold> push(int32_t token);

  /// Equal tokens before the next one; 0 = nothing is foretold.
  int length() const { return match_.length; }
  /// How many of the next n tokens it can foretell.
  int n_foretold(int n) const;
  /// Appends up to n tokens that may come next; the one at i has length() + i equal tokens before it if all before it
  /// are right.
  void draft(int n, std::vector<int32_t>& tokens) const;

 private:
  LookupIndex::Place after(LookupIndex::Place place) const;

  std::shared_ptr<LookupIndex> index_;
  LookupIndex::Place last_ = LookupIndex::kNowhere;
  LookupIndex::Match match_;
};

}  // namespace mobilellm
