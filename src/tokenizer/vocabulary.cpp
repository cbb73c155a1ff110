// Growing a Vocabulary.
#include "tokenizer/vocabulary.h"

#include <algorithm>
#include <bit>

#include "base/error.h"

namespace mobilellm {

void Vocabulary::reserve(size_t n_tokens, size_t n_bytes) {
  arena_.reserve(n_bytes);
  spans_.reserve(n_tokens);
  const size_t n_slots = std::bit_ceil(std::max<size_t>(16, n_tokens * 2));
  if (n_slots > slots_.size()) rehash(n_slots);
}

void Vocabulary::rehash(size_t n_slots) {
  slots_.assign(n_slots, Slot{});
  for (size_t id = 0; id < spans_.size(); ++id) {
    const std::string_view token = text(static_cast<TokenId>(id));
    if (!has(static_cast<TokenId>(id))) continue;
    const TextKey key = make_text_key(token);
    size_t i = key.hash & (n_slots - 1);
    while (slots_[i].id >= 0) i = (i + 1) & (n_slots - 1);
    slots_[i] = {slot_word(key), key.n, static_cast<TokenId>(id)};
  }
}

Vocabulary::Added Vocabulary::add(std::string_view text, TokenId id) {
  MOBILELLM_CHECK(id >= 0 && id <= kMaxTokenId);
  if (has(id)) return Added::kIdTaken;
  if ((n_tokens_ + 1) * 2 > slots_.size()) rehash(std::max<size_t>(16, slots_.size() * 2));
  const TextKey key = make_text_key(text);
  if (find(text, key) >= 0) return Added::kTextTaken;
  size_t i = key.hash & (slots_.size() - 1);
  while (slots_[i].id >= 0) i = (i + 1) & (slots_.size() - 1);
  if (arena_.size() + text.size() >= kHole)
    fail(ErrorCode::kResourceLimit, "[tokenizer] the vocabulary has over 4 GB of text");
  if (static_cast<size_t>(id) >= spans_.size()) spans_.resize(static_cast<size_t>(id) + 1);
  spans_[static_cast<size_t>(id)] = {static_cast<uint32_t>(arena_.size()), static_cast<uint32_t>(text.size())};
  arena_ += text;
  slots_[i] = {slot_word(key), key.n, id};
  ++n_tokens_;
  max_length_ = std::max(max_length_, text.size());
  return Added::kNew;
}

}  // namespace mobilellm
