/// Drafts from what the sequences of an engine have said before, prompts included.
#pragma once

#include <memory>
#include <unordered_map>
#include <vector>

#include "engine/sequence.h"
#include "engine/speculation/acceptance.h"
#include "engine/speculation/draft_length.h"
#include "engine/speculation/lookup_match.h"

namespace mobilellm {

/// Follows every sequence that was asked about, and learns from each of its tokens how far matches can be trusted,
/// drafted or not. Sequences forked from one prompt find what any of them said.
class LookupDrafter {
 public:
  LookupDrafter();

  /// How likely up to n tokens are, if they were drafted now.
  Survival survival(const Sequence& sequence, int n);
  /// The first n of these tokens.
  void draft(const Sequence& sequence, int n, std::vector<int32_t>& tokens);

  /// To be called for each token after it was appended to the sequence.
  void on_token(const Sequence& sequence, int32_t token);
  void remove(const Sequence& sequence);

 private:
  // What sequences forked from one request share.
  struct Family {
    LookupMatch prompt;
    int n_members = 0;
  };
  struct Member {
    LookupMatch match;
    AcceptanceRates rates;
  };
  Member& member(const Sequence& sequence);

  AcceptanceRates rates_;
  std::unordered_map<RequestId, Family> families_;
  std::unordered_map<RequestId, Member> members_;
};

}  // namespace mobilellm
