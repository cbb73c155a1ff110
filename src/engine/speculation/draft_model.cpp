// Pages, passes and the choice of tokens.
#include "engine/speculation/draft_model.h"

#include <algorithm>
#include <cmath>

#include "base/random.h"

namespace mobilellm {

DraftModel::DraftModel(Runner& runner, int max_pages)
    : runner_(runner), blocks_(max_pages, [&runner](int n_pages) { runner.reserve_pages(n_pages); }) {}

void DraftModel::release(Text& text) {
  for (const int32_t page : text.pages) blocks_.release(page);
  text.pages.clear();
  text.tokens.clear();
  text.n_certain = 0;
}

void DraftModel::remove(RequestId id) {
  const auto found = texts_.find(id);
  if (found == texts_.end()) return;
  release(found->second);
  texts_.erase(found);
}

// Whole pages of a text that begins alike, e.g. of another sample of the prompt. Nobody writes into them again: they
// hold certain tokens only.
void DraftModel::share_beginning(Text& text, const Sequence& sequence) {
  const auto page_tokens = static_cast<size_t>(runner_.page_tokens());
  const Text* best = nullptr;
  size_t n_best = 0;
  for (const auto& [id, other] : texts_) {
    const size_t n_most = std::min(other.n_certain, sequence.tokens.size() - 1);
    const auto end = std::mismatch(other.tokens.begin(), other.tokens.begin() + static_cast<std::ptrdiff_t>(n_most),
                                   sequence.tokens.begin());
    const size_t n_pages = static_cast<size_t>(end.first - other.tokens.begin()) / page_tokens;
    if (n_pages <= n_best) continue;
    best = &other;
    n_best = n_pages;
  }
  if (best == nullptr) return;
  text.pages.assign(best->pages.begin(), best->pages.begin() + static_cast<std::ptrdiff_t>(n_best));
  for (const int32_t page : text.pages) blocks_.share(page);
  text.n_certain = n_best * page_tokens;
  text.tokens.assign(sequence.tokens.begin(), sequence.tokens.begin() + static_cast<std::ptrdiff_t>(text.n_certain));
}

// With what the sequence has become since: guesses that were right are certain now, others are forgotten. At least one
// token is left to compute.
DraftModel::Text& DraftModel::text_of(const Sequence& sequence) {
  Text& text = texts_[sequence.id];
  if (text.tokens.empty()) share_beginning(text, sequence);
  const size_t n_most = std::min(text.tokens.size(), sequence.tokens.size() - 1);
  while (text.n_certain < n_most && text.tokens[text.n_certain] == sequence.tokens[text.n_certain]) ++text.n_certain;
  text.tokens.resize(std::min(text.n_certain, n_most));
  text.n_certain = text.tokens.size();
  return text;
}

int64_t DraftModel::n_behind(const Sequence& sequence) {
  return sequence.n_tokens() - static_cast<int64_t>(text_of(sequence).n_certain);
}

bool DraftModel::free_unwanted() {
  for (auto& [id, text] : texts_) {
    if (text.is_wanted || text.pages.empty()) continue;
    release(text);
    return true;
  }
  return false;
}

bool DraftModel::make_room(Text& text, size_t n_tokens) {
  const auto page_tokens = static_cast<size_t>(runner_.page_tokens());
  if (static_cast<int64_t>(n_tokens) > runner_.spec().max_context) return false;
  while (text.pages.size() * page_tokens < n_tokens) {
    auto page = blocks_.allocate();
    while (!page && free_unwanted()) page = blocks_.allocate();
    if (!page) return false;
    text.pages.push_back(*page);
  }
  return true;
}

bool DraftModel::catch_up(const Sequence& sequence, int64_t n) {
  for (auto& [id, text] : texts_) text.is_wanted = id == sequence.id;
  Text& text = text_of(sequence);
  const size_t begin = text.tokens.size();
  const auto n_tokens =
      static_cast<size_t>(std::min<int64_t>(n, sequence.n_tokens() - 1 - static_cast<int64_t>(begin)));
  text.is_wanted = true;
  if (!make_room(text, begin + n_tokens)) {
    release(text);
    return false;
  }
  const auto tokens = std::span(sequence.tokens).subspan(begin, n_tokens);
  const SequenceSlice slice{tokens, static_cast<int64_t>(begin), text.pages, 0};
  if (n_tokens > 0) runner_.forward(std::span(&slice, 1), nullptr);
  text.tokens.insert(text.tokens.end(), tokens.begin(), tokens.end());
  text.n_certain = text.tokens.size();
  return true;
}

std::vector<ModelDraft> DraftModel::draft(std::span<const Wish> wishes, const GrowsOn& grows_on) {
  std::vector<ModelDraft> drafts(wishes.size());
  std::vector<Growing> growing;
  for (auto& [id, text] : texts_) text.is_wanted = false;
  for (const Wish& wish : wishes) text_of(*wish.sequence).is_wanted = true;
  for (size_t i = 0; i < wishes.size(); ++i) {
    const Sequence& sequence = *wishes[i].sequence;
    Text& text = texts_.at(sequence.id);
    if (!make_room(text, sequence.tokens.size())) {
      release(text);
      continue;
    }
    growing.push_back({i, &text, sequence.history});
  }
  const auto vocab_size = static_cast<size_t>(runner_.spec().vocab_size);
  std::vector<SequenceSlice> slices;
  for (int n = 0; !growing.empty(); ++n) {
    slices.clear();
    for (const Growing& it : growing) {
      const Sequence& sequence = *wishes[it.index].sequence;
      const size_t n_cached = it.text->tokens.size();
      const auto waiting = n == 0 ? std::span(sequence.tokens).subspan(n_cached)
                                  : std::span<const int32_t>(drafts[it.index].tokens).last(1);
      slices.push_back({waiting, static_cast<int64_t>(n_cached), it.text->pages, 1});
    }
    if (logits_.size() < growing.size() * vocab_size) logits_.resize(growing.size() * vocab_size);
    runner_.forward(slices, logits_.data());
    std::vector<Growing> still_growing;
    for (size_t i = 0; i < growing.size(); ++i) {
      Growing& it = growing[i];
      const Sequence& sequence = *wishes[it.index].sequence;
      ModelDraft& draft = drafts[it.index];
      it.text->tokens.insert(it.text->tokens.end(), slices[i].tokens.begin(), slices[i].tokens.end());
      if (n == 0) it.text->n_certain = it.text->tokens.size();
      const auto row = std::span<const float>(logits_).subspan(i * vocab_size, vocab_size);
      const Request& request = sequence.request;
      const uint64_t position = static_cast<uint64_t>(sequence.n_tokens()) + draft.tokens.size();
      const double uniform = random_uniform(request.sampling.seed, request.stream, position);
      const int32_t token = sampler_.sample(row, request.sampling, it.history, uniform);
      draft.tokens.push_back(token);
      draft.confidences.push_back(std::exp(row[static_cast<size_t>(token)] - log_sum_exp(row)));
      const bool grows = grows_on(it.index, draft);
      const bool is_eos = std::find(request.eos_ids.begin(), request.eos_ids.end(), token) != request.eos_ids.end();
      if (!grows || (is_eos && !request.ignore_eos) || n + 1 >= wishes[it.index].n ||
          !make_room(*it.text, it.text->tokens.size() + 1)) {
        continue;
      }
      it.history.add_generated(token);
      still_growing.push_back(std::move(it));
    }
    growing = std::move(still_growing);
  }
  return drafts;
}

}  // namespace mobilellm
