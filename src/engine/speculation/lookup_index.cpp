// A tree of tokens and an open-addressed table from hashes of runs to places.
#include "engine/speculation/lookup_index.h"

#include <limits>
#include <utility>

namespace mobilellm {
namespace {

// Probes per key: bounds the work for any tokens. Keys that find no slot in reach are simply not remembered.
constexpr size_t kMaxProbes = 32;
constexpr size_t kFirstSlots = 256;

// One round of multiplication and folding (Wang Yi, wyhash) per token.
uint64_t mix(uint64_t hash, int32_t token) {
  constexpr uint64_t kOdd = 0x9E3779B97F4A7C15;
  hash = (hash ^ (static_cast<uint64_t>(static_cast<uint32_t>(token)) + kOdd)) * 0xD6E8FEB86659FD93;
  return hash ^ (hash >> 32);
}

}  // namespace

LookupIndex::LookupIndex() : nodes_(1, Node{-1, kNowhere, kNowhere}), slots_(kFirstSlots) {}

LookupIndex::Place LookupIndex::append(Place last, int32_t token) {
  const size_t place = nodes_.size();
  if (place >= std::numeric_limits<Place>::max()) return kNowhere;  // Nothing more is learnt.
  nodes_.push_back({token, last, kNowhere});
  if (last != kNowhere && nodes_[last].next == kNowhere) nodes_[last].next = static_cast<Place>(place);
  return static_cast<Place>(place);
}

int LookupIndex::equal_length(Place a, Place b) const {
  int length = 0;
  while (length < kLongestMatch && a != kNowhere && b != kNowhere && nodes_[a].token == nodes_[b].token) {
    ++length;
    a = nodes_[a].previous;
    b = nodes_[b].previous;
  }
  return length;
}

LookupIndex::Slot* LookupIndex::slot_for(uint64_t key) {
  const size_t mask = slots_.size() - 1;
  for (size_t i = 0; i < kMaxProbes; ++i) {
    Slot& slot = slots_[(static_cast<size_t>(key) + i) & mask];
    if (slot.key == key || slot.key == 0) return &slot;
  }
  return nullptr;
}

void LookupIndex::grow() {
  std::vector<Slot> old(slots_.size() * 2);
  old.swap(slots_);
  n_keys_ = 0;
  for (const Slot& slot : old) {
    if (slot.key == 0) continue;
    Slot* place = slot_for(slot.key);
    if (place == nullptr) continue;
    *place = slot;
    ++n_keys_;
  }
}

LookupIndex::Match LookupIndex::find_and_insert(Place place) {
  Match best;
  if (place == kNowhere) return best;
  std::array<uint64_t, kRuns.size()> keys{};
  size_t n_runs = 0;
  uint64_t hash = 0;
  int length = 0;
  for (Place at = place; at != kNowhere && n_runs < kRuns.size(); at = nodes_[at].previous) {
    hash = mix(hash, nodes_[at].token);
    if (++length == kRuns[n_runs]) keys[n_runs++] = hash == 0 ? 1 : hash;
  }
  for (size_t run = n_runs; run-- > 0;) {
    if ((n_keys_ + 1) * 8 > slots_.size() * 5) grow();
    Slot* slot = slot_for(keys[run]);
    if (slot == nullptr) continue;
    if (slot->key == 0) {
      slot->key = keys[run];
      ++n_keys_;
    } else if (best.length < kRuns[run]) {
      for (const Place candidate : {slot->latest, slot->earlier}) {
        if (candidate == kNowhere || nodes_[candidate].next == kNowhere) continue;
        const int equal = equal_length(candidate, place);
        if (equal > best.length) best = {candidate, equal};
      }
    }
    slot->earlier = std::exchange(slot->latest, place);
  }
  return best;
}

}  // namespace mobilellm
