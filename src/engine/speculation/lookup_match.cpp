// The match goes on while it is right; a longer one takes its place.
#include "engine/speculation/lookup_match.h"

namespace mobilellm {

std::optional<LookupMatch::Foretold> LookupMatch::push(int32_t token) {
  std::optional<Foretold> foretold;
  const LookupIndex::Place expected = match_.length > 0 ? index_->next(match_.place) : LookupIndex::kNowhere;
  LookupIndex::Match continued;
  if (expected != LookupIndex::kNowhere) {
    foretold = Foretold{match_.length, index_->token(expected) == token};
    if (foretold->is_right) continued = {expected, match_.length + 1};
  }
  last_ = index_->append(last_, token);
  const LookupIndex::Match found = index_->find_and_insert(last_);
  // A match that reached the end of what was said foretells nothing.
  const bool goes_on = continued.length > 0 && index_->next(continued.place) != LookupIndex::kNowhere;
  match_ = goes_on && continued.length >= found.length ? continued : found;
  return foretold;
}

// Behind the text's own end comes what the draft itself says: a text that repeats itself with a short period.
LookupIndex::Place LookupMatch::after(LookupIndex::Place place) const {
  return index_->next(place == last_ ? match_.place : place);
}

int LookupMatch::n_foretold(int n) const {
  if (match_.length == 0) return 0;
  int n_foretold = 0;
  for (LookupIndex::Place place = after(match_.place); n_foretold < n && place != LookupIndex::kNowhere; ++n_foretold) {
    place = after(place);
  }
  return n_foretold;
}

void LookupMatch::draft(int n, std::vector<int32_t>& tokens) const {
  if (match_.length == 0) return;
  LookupIndex::Place place = after(match_.place);
  for (int i = 0; i < n && place != LookupIndex::kNowhere; ++i) {
    tokens.push_back(index_->token(place));
    place = after(place);
  }
}

}  // namespace mobilellm
