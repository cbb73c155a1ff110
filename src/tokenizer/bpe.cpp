// The merge loop: lowest rank first, leftmost on ties, exactly as a priority queue over the whole piece would do it.
#include "tokenizer/bpe.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdio>

#include "base/error.h"
#include "base/utf8.h"
#include "tokenizer/utf8_scan.h"

namespace mobilellm {
namespace {

// Up to this many symbols a scan for the lowest rank beats a heap.
constexpr size_t kShort = 48;
constexpr size_t kBoundaryBits = size_t{1} << 22;
constexpr size_t kScratchEntries = size_t{1} << 13;
constexpr size_t kScratchMinText = 16 << 10;

size_t boundary_hash(char32_t left, char32_t right) {
  const uint64_t key = (uint64_t{left} << 32 | right) * 0x9E3779B97F4A7C15ULL;
  return (key >> 32) % kBoundaryBits;
}

}  // namespace

void MergeTable::reserve(size_t n_merges) {
  const size_t n_slots = std::bit_ceil(std::max<size_t>(16, n_merges + n_merges / 2));
  if (n_slots > slots_.size()) grow(n_slots);
}

void MergeTable::grow(size_t n_slots) {
  std::vector<Slot> old(n_slots);
  old.swap(slots_);
  for (const Slot& slot : old) {
    if (slot.left < 0) continue;
    size_t i = hash(slot.left, slot.right) & (n_slots - 1);
    while (slots_[i].left >= 0) i = (i + 1) & (n_slots - 1);
    slots_[i] = slot;
  }
}

void MergeTable::set(TokenId left, TokenId right, Merge merge) {
  if ((n_merges_ + 1) * 3 > slots_.size() * 2) grow(std::max<size_t>(16, slots_.size() * 2));
  const size_t mask = slots_.size() - 1;
  for (size_t i = hash(left, right) & mask;; i = (i + 1) & mask) {
    Slot& slot = slots_[i];
    if (slot.left < 0) {
      slot = {left, right, merge};
      ++n_merges_;
      return;
    }
    if (slot.left == left && slot.right == right) {
      slot.merge = merge;
      return;
    }
  }
}

Bpe::Scratch::Scratch(size_t n_text_bytes, const std::vector<bool>* barred) : barred_(barred) {
  if (n_text_bytes < kScratchMinText) return;
  entries_.resize(kScratchEntries);
}

Bpe::Bpe(Vocabulary vocabulary, MergeTable merges, BpeOptions options)
    : vocabulary_(std::move(vocabulary)), merges_(std::move(merges)), options_(options), byte_ids_(256, -1) {
  for (int byte = 0; byte < 256; ++byte) {
    if (options_.is_byte_level) {
      const char text = static_cast<char>(byte);
      byte_ids_[static_cast<size_t>(byte)] = vocabulary_.find({&text, 1});
    } else {
      char text[8];
      std::snprintf(text, sizeof text, "<0x%02X>", static_cast<unsigned>(byte));
      byte_ids_[static_cast<size_t>(byte)] = vocabulary_.find(text);
    }
  }
  is_complete_ = std::none_of(byte_ids_.begin(), byte_ids_.end(), [](TokenId id) { return id < 0; });
  is_whole_ = std::make_unique<std::atomic<uint8_t>[]>(vocabulary_.size());
  if (options_.is_byte_level) {
    byte_merges_.resize(0x10000);
    for (size_t left = 0; left < 256; ++left) {
      for (size_t right = 0; right < 256; ++right) {
        if (byte_ids_[left] >= 0 && byte_ids_[right] >= 0) {
          byte_merges_[left << 8 | right] = merges_.find(byte_ids_[left], byte_ids_[right]);
        }
      }
    }
    return;
  }
  character_ids_.assign(0x10000, -1);
  for (size_t id = 0; id < vocabulary_.size(); ++id) {
    const std::string_view text = vocabulary_.text(static_cast<TokenId>(id));
    if (text.empty() || text.size() > 3) continue;
    const Utf8Char c = decode_utf8(text, 0);
    if (c.is_valid && static_cast<size_t>(c.n_bytes) == text.size())
      character_ids_[c.code_point] = static_cast<TokenId>(id);
  }
  note_crossed_boundaries();
}

void Bpe::note_crossed_boundaries() {
  boundary_bits_.assign(kBoundaryBits / 64, 0);
  merges_.for_each_pair([this](TokenId left, TokenId right) {
    const std::string_view before = vocabulary_.text(left);
    const std::string_view after = vocabulary_.text(right);
    if (before.empty() || after.empty()) return;
    const char* const before_end = before.data() + before.size();
    const size_t bit =
        boundary_hash(char_before(before_end, before.data()).code_point, char_at(after.data()).code_point);
    boundary_bits_[bit / 64] |= uint64_t{1} << (bit % 64);
  });
}

int Bpe::byte_of(TokenId id) const {
  if (options_.is_byte_level) return -1;
  const auto found = std::find(byte_ids_.begin(), byte_ids_.end(), id);
  return id < 0 || found == byte_ids_.end() ? -1 : static_cast<int>(found - byte_ids_.begin());
}

void Bpe::encode_piece(std::string_view piece, std::vector<TokenId>& out, Scratch& scratch) const {
  if (piece.empty()) return;
  if (piece.size() > (size_t{1} << 30)) {
    fail(ErrorCode::kResourceLimit, "[tokenizer] a piece of text has {} bytes, at most {} are allowed", piece.size(),
         1 << 30);
  }
  if (options_.is_byte_level) {
    encode_unit(piece, out, scratch);
  } else {
    encode_characters(piece, out, scratch);
  }
}

// Text that no pre-tokenizer cuts (SentencePiece style) is cut where no merge can join the two characters: the ids on
// either side cannot depend on the other, and short units are fast and repeat.
void Bpe::encode_characters(std::string_view piece, std::vector<TokenId>& out, Scratch& scratch) const {
  if (options_.ignore_merges && piece.size() <= vocabulary_.max_length()) {
    const TokenId id = vocabulary_.find(piece);
    if (id >= 0 && (scratch.barred_ == nullptr || !(*scratch.barred_)[static_cast<size_t>(id)])) {
      out.push_back(id);
      return;
    }
  }
  const char* const end = piece.data() + piece.size();
  const char* unit = piece.data();
  CharAt left = char_at(unit);
  bool left_known = character_id(left.code_point, {unit, left.n_bytes}) >= 0;
  const char* p = unit + left.n_bytes;
  while (p < end) {
    const CharAt right = char_at(p);
    const bool right_known = character_id(right.code_point, {p, right.n_bytes}) >= 0;
    if (left_known && right_known && !may_merge_across(left.code_point, right.code_point)) {
      encode_unit({unit, p}, out, scratch);
      unit = p;
    }
    left = right;
    left_known = right_known;
    p += right.n_bytes;
  }
  encode_unit({unit, end}, out, scratch);
}

bool Bpe::may_merge_across(char32_t left, char32_t right) const {
  const size_t bit = boundary_hash(left, right);
  return (boundary_bits_[bit / 64] >> (bit % 64) & 1) != 0;
}

void Bpe::encode_unit(std::string_view unit, std::vector<TokenId>& out, Scratch& scratch) const {
  const TextKey key = make_text_key(unit);
  if (scratch.entries_.empty() || unit.size() > Scratch::kMaxText) {
    find_ids(unit, key, out, scratch);
    return;
  }
  Scratch::Entry& entry = scratch.entries_[(key.hash >> 40) & (kScratchEntries - 1)];
  if (entry.lo == key.lo && entry.hi == key.hi && entry.n_text == key.n) {
    if (entry.n_ids == 1) {
      out.push_back(entry.ids[0]);
    } else {
      out.insert(out.end(), entry.ids, entry.ids + entry.n_ids);
    }
    return;
  }
  const size_t start = out.size();
  find_ids(unit, key, out, scratch);
  const size_t n_ids = out.size() - start;
  if (n_ids > Scratch::kMaxIds) return;
  entry.lo = key.lo;
  entry.hi = key.hi;
  entry.n_text = static_cast<uint16_t>(key.n);
  entry.n_ids = static_cast<uint16_t>(n_ids);
  std::copy_n(out.begin() + static_cast<ptrdiff_t>(start), n_ids, entry.ids);
}

void Bpe::find_ids(std::string_view unit, const TextKey& key, std::vector<TokenId>& out, Scratch& scratch) const {
  TokenId whole = unit.size() <= vocabulary_.max_length() ? vocabulary_.find(unit, key) : -1;
  if (whole >= 0 && scratch.barred_ != nullptr && (*scratch.barred_)[static_cast<size_t>(whole)]) whole = -1;
  if (whole < 0) {
    merge_unit(unit, out, scratch);
    return;
  }
  std::atomic<uint8_t>& is_whole = is_whole_[static_cast<size_t>(whole)];
  const uint8_t known = is_whole.load(std::memory_order_relaxed);
  if (known == 1 || (options_.ignore_merges && options_.is_byte_level)) {
    out.push_back(whole);
    return;
  }
  const size_t start = out.size();
  merge_unit(unit, out, scratch);
  if (known == 0) {
    is_whole.store(out.size() == start + 1 && out[start] == whole ? 1 : 2, std::memory_order_relaxed);
  }
}

void Bpe::start_symbols(std::string_view unit, std::vector<TokenId>& symbols) const {
  symbols.clear();
  bool has_pending_unknown = false;
  const auto add_unknown = [&] {
    if (options_.unknown_id < 0) return;
    if (has_pending_unknown && !options_.fuse_unknown) symbols.push_back(options_.unknown_id);
    has_pending_unknown = true;
  };
  const auto add_known = [&](TokenId id) {
    if (has_pending_unknown) symbols.push_back(options_.unknown_id);
    has_pending_unknown = false;
    symbols.push_back(id);
  };
  const char* const end = unit.data() + unit.size();
  for (const char* p = unit.data(); p < end;) {
    if (options_.is_byte_level) {
      const TokenId id = byte_ids_[static_cast<unsigned char>(*p++)];
      id >= 0 ? add_known(id) : add_unknown();
      continue;
    }
    const CharAt c = char_at(p);
    const TokenId id = character_id(c.code_point, {p, c.n_bytes});
    if (id >= 0) {
      add_known(id);
    } else if (options_.byte_fallback &&
               std::all_of(p, p + c.n_bytes, [&](char b) { return byte_ids_[static_cast<unsigned char>(b)] >= 0; })) {
      // A pending unknown token stays pending: the reference puts it after the bytes.
      for (uint32_t i = 0; i < c.n_bytes; ++i) symbols.push_back(byte_ids_[static_cast<unsigned char>(p[i])]);
    } else {
      add_unknown();
    }
    p += c.n_bytes;
  }
  if (has_pending_unknown) symbols.push_back(options_.unknown_id);
}

void Bpe::merge_unit(std::string_view unit, std::vector<TokenId>& out, Scratch& scratch) const {
  std::array<MergeTable::Merge, kShort> merges;  // merges[i]: of symbols i and i + 1.
  if (options_.is_byte_level && is_complete_ && unit.size() <= kShort) {
    std::array<TokenId, kShort> symbols;
    size_t right = static_cast<unsigned char>(unit[0]);
    symbols[0] = byte_ids_[right];
    for (size_t i = 1; i < unit.size(); ++i) {
      const size_t left = right;
      right = static_cast<unsigned char>(unit[i]);
      symbols[i] = byte_ids_[right];
      merges[i - 1] = byte_merges_[left << 8 | right];
    }
    merge_short(symbols.data(), merges.data(), unit.size(), out);
    return;
  }
  start_symbols(unit, scratch.symbols_);
  const size_t n = scratch.symbols_.size();
  if (n > kShort) {
    merge_long(scratch.symbols_, out);
    return;
  }
  for (size_t i = 0; i + 1 < n; ++i) merges[i] = merges_.find(scratch.symbols_[i], scratch.symbols_[i + 1]);
  merge_short(scratch.symbols_.data(), merges.data(), n, out);
}

void Bpe::merge_short(TokenId* symbols, MergeTable::Merge* merges, size_t n, std::vector<TokenId>& out) const {
  while (n > 1) {
    size_t best = 0;
    uint32_t best_rank = merges[0].rank;
    for (size_t i = 1; i + 1 < n; ++i) {
      if (merges[i].rank < best_rank) {
        best_rank = merges[i].rank;
        best = i;
      }
    }
    if (best_rank == MergeTable::kNoRank) break;
    symbols[best] = merges[best].id;
    for (size_t i = best + 1; i + 1 < n; ++i) {
      symbols[i] = symbols[i + 1];
      merges[i - 1] = merges[i];
    }
    --n;
    // After the shift merges[best] belonged to the pair after the merged one: both neighbours are looked up anew.
    if (best + 1 < n) merges[best] = merges_.find(symbols[best], symbols[best + 1]);
    if (best > 0) merges[best - 1] = merges_.find(symbols[best - 1], symbols[best]);
  }
  out.insert(out.end(), symbols, symbols + n);
}

void Bpe::merge_long(const std::vector<TokenId>& symbols, std::vector<TokenId>& out) const {
  struct Node {
    TokenId id;
    int32_t previous;
    int32_t next;             // -1 at the end.
    MergeTable::Merge merge;  // With the next; its rank is kNoRank once this node was merged away.
  };
  const size_t n = symbols.size();
  std::vector<Node> nodes(n);
  std::vector<uint64_t> heap;  // rank << 32 | position: the smallest is the lowest rank, leftmost.
  heap.reserve(n);
  for (size_t i = 0; i < n; ++i) {
    nodes[i] = {symbols[i], static_cast<int32_t>(i) - 1, i + 1 < n ? static_cast<int32_t>(i) + 1 : -1, {}};
    if (i + 1 < n) nodes[i].merge = merges_.find(symbols[i], symbols[i + 1]);
    if (nodes[i].merge.rank != MergeTable::kNoRank) heap.push_back(uint64_t{nodes[i].merge.rank} << 32 | i);
  }
  std::make_heap(heap.begin(), heap.end(), std::greater<>());
  const auto update = [&](int32_t position) {
    Node& node = nodes[static_cast<size_t>(position)];
    node.merge = node.next < 0 ? MergeTable::Merge{} : merges_.find(node.id, nodes[static_cast<size_t>(node.next)].id);
    if (node.merge.rank == MergeTable::kNoRank) return;
    heap.push_back(uint64_t{node.merge.rank} << 32 | static_cast<uint32_t>(position));
    std::push_heap(heap.begin(), heap.end(), std::greater<>());
  };
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), std::greater<>());
    const auto rank = static_cast<uint32_t>(heap.back() >> 32);
    const auto position = static_cast<int32_t>(heap.back() & UINT32_MAX);
    heap.pop_back();
    Node& node = nodes[static_cast<size_t>(position)];
    if (node.merge.rank != rank) continue;  // Stale: the pair has changed since.
    Node& right = nodes[static_cast<size_t>(node.next)];
    node.id = node.merge.id;
    node.next = right.next;
    right.merge = {};
    if (node.next >= 0) nodes[static_cast<size_t>(node.next)].previous = position;
    update(position);
    if (node.previous >= 0) update(node.previous);
  }
  for (int32_t i = 0; i >= 0 && n > 0; i = nodes[static_cast<size_t>(i)].next)
    out.push_back(nodes[static_cast<size_t>(i)].id);
}

}  // namespace mobilellm
