// One index per family, one match per sequence.
#include "engine/speculation/lookup_drafter.h"

#include <array>

namespace mobilellm {
namespace {

// Classes of matches: by the most equal tokens they have, with what to expect of them before anything was seen (a
// little less than twelve answers of a small model gave, prose, code and arithmetic).
struct MatchClass {
  int longest;
  double expected;
};
constexpr std::array<MatchClass, 10> kClasses = {{{1, 0.2},
                                                  {2, 0.42},
                                                  {3, 0.45},
                                                  {4, 0.6},
                                                  {6, 0.65},
                                                  {8, 0.65},
                                                  {12, 0.75},
                                                  {16, 0.85},
                                                  {LookupIndex::kLongestMatch - 1, 0.92},
                                                  {LookupIndex::kLongestMatch, 0.97}}};

size_t class_of(int length) {
  size_t index = 0;
  while (index + 1 < kClasses.size() && length > kClasses[index].longest) ++index;
  return index;
}

std::array<double, kClasses.size()> expected_rates() {
  std::array<double, kClasses.size()> rates{};
  for (size_t i = 0; i < kClasses.size(); ++i) rates[i] = kClasses[i].expected;
  return rates;
}

}  // namespace

LookupDrafter::LookupDrafter() : rates_(expected_rates()) {}

LookupDrafter::Member& LookupDrafter::member(const Sequence& sequence) {
  const auto found = members_.find(sequence.id);
  if (found != members_.end()) return found->second;
  auto [family, is_new] =
      families_.try_emplace(sequence.family, Family{LookupMatch(std::make_shared<LookupIndex>()), 0});
  if (is_new) {
    for (const int32_t token : sequence.request.prompt) (void)family->second.prompt.push(token);
  }
  ++family->second.n_members;
  Member& member =
      members_.try_emplace(sequence.id, Member{family->second.prompt, AcceptanceRates(&rates_)}).first->second;
  for (size_t i = sequence.request.prompt.size(); i < sequence.tokens.size(); ++i) {
    (void)member.match.push(sequence.tokens[i]);
  }
  return member;
}

Survival LookupDrafter::survival(const Sequence& sequence, int n) {
  const Member& it = member(sequence);
  Survival survival;
  const int n_foretold = it.match.n_foretold(n);
  double all_right = 1;
  for (int i = 0; i < n_foretold; ++i) {
    all_right *= it.rates.rate(class_of(it.match.length() + i));
    survival.push_back(all_right);
  }
  return survival;
}

void LookupDrafter::draft(const Sequence& sequence, int n, std::vector<int32_t>& tokens) {
  member(sequence).match.draft(n, tokens);
}

void LookupDrafter::on_token(const Sequence& sequence, int32_t token) {
  const auto found = members_.find(sequence.id);
  if (found == members_.end()) return;
  const auto foretold = found->second.match.push(token);
  if (!foretold) return;
  const size_t index = class_of(foretold->length);
  found->second.rates.record(index, foretold->is_right);
  rates_.record(index, foretold->is_right);
}

void LookupDrafter::remove(const Sequence& sequence) {
  if (members_.erase(sequence.id) == 0) return;
  const auto family = families_.find(sequence.family);
  if (--family->second.n_members == 0) families_.erase(family);
}

}  // namespace mobilellm
