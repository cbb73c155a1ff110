// Pages of plain tokens, and logits that depend on all of them.
#include "backend/fake/fake_runner.h"

#include <algorithm>
#include <limits>

#include "base/error.h"
#include "base/random.h"

namespace mobilellm {

FakeRunner::FakeRunner(const FakeRunnerOptions& options) : options_(options) {
  spec_.architecture = "fake";
  spec_.vocab_size = options.vocab_size;
  spec_.d_model = 1;
  spec_.max_context = options.max_context;
  spec_.eos_ids = options.eos_ids;
  if (options.window == 0) return;
  spec_.layers.resize(2);
  spec_.layers[1].window = {AttentionWindow::Kind::kSliding, options.window};
}

void FakeRunner::script_reply(std::vector<int32_t> prompt, std::vector<int32_t> reply) {
  replies_[std::move(prompt)] = std::move(reply);
}

void FakeRunner::reserve_pages(int n_pages) {
  if (n_pages > options_.max_pages) {
    fail(ErrorCode::kResourceLimit, "[fake] {} pages wanted, {} possible", n_pages, options_.max_pages);
  }
  if (static_cast<size_t>(n_pages) > pages_.size()) {
    pages_.resize(static_cast<size_t>(n_pages), std::vector<Slot>(static_cast<size_t>(options_.page_tokens)));
  }
}

void FakeRunner::copy_page(int from, int to) {
  pages_.at(static_cast<size_t>(to)) = pages_.at(static_cast<size_t>(from));
}

void FakeRunner::forget_window(int page) {
  ++n_forgotten_;
  for (Slot& slot : pages_.at(static_cast<size_t>(page))) slot.is_in_window = false;
}

FakeRunner::Slot& FakeRunner::slot(std::span<const int32_t> pages, int64_t pos) {
  const auto index = static_cast<size_t>(pos / options_.page_tokens);
  if (index >= pages.size()) fail(ErrorCode::kInternal, "[fake] position {} has no page", pos);
  const auto page = static_cast<size_t>(pages[index]);
  if (page >= pages_.size()) fail(ErrorCode::kInternal, "[fake] page {} was not reserved", page);
  return pages_[page][static_cast<size_t>(pos % options_.page_tokens)];
}

void FakeRunner::forward(std::span<const SequenceSlice> batch, float* logits) {
  ++n_forwards_;
  largest_batch_ = std::max(largest_batch_, batch.size());
  // All writes come before all reads, so that two sequences writing one page disturb each other for certain.
  for (const SequenceSlice& slice : batch) {
    for (size_t i = 0; i < slice.tokens.size(); ++i) {
      const int64_t pos = slice.start_pos + static_cast<int64_t>(i);
      if (slice.tokens[i] < 0 || slice.tokens[i] >= options_.vocab_size) {
        fail(ErrorCode::kInvalidArgument, "[fake] token id {} is outside the vocabulary", slice.tokens[i]);
      }
      slot(slice.pages, pos) = {slice.tokens[i], pos, true};
    }
    n_tokens_computed_ += static_cast<int64_t>(slice.tokens.size());
  }
  std::vector<int32_t> history;
  for (const SequenceSlice& slice : batch) {
    const int64_t end = slice.start_pos + static_cast<int64_t>(slice.tokens.size());
    history.clear();
    for (int64_t pos = 0; pos < end; ++pos) {
      const Slot& s = slot(slice.pages, pos);
      if (s.pos != pos) fail(ErrorCode::kInternal, "[fake] position {} holds position {}", pos, s.pos);
      if (!s.is_in_window && pos > slice.start_pos - options_.window) {
        fail(ErrorCode::kInternal, "[fake] position {} was forgotten too early, at {}", pos, slice.start_pos);
      }
      history.push_back(s.token);
      if (pos < end - slice.n_logits) continue;
      write_logits(history, logits);
      logits += options_.vocab_size;
    }
  }
}

int32_t FakeRunner::expected_token(std::span<const int32_t> history) const {
  uint64_t hash = 0;
  for (const int32_t token : history) hash = random_bits(hash, static_cast<uint64_t>(token), history.size());
  return static_cast<int32_t>(hash % static_cast<uint64_t>(options_.vocab_size));
}

void FakeRunner::write_logits(std::span<const int32_t> history, float* logits) const {
  const auto vocab_size = static_cast<size_t>(options_.vocab_size);
  if (break_after_ >= 0 && n_forwards_ > break_after_) {
    std::fill_n(logits, vocab_size, std::numeric_limits<float>::quiet_NaN());
    return;
  }
  std::optional<int32_t> scripted;
  if (script_) scripted = script_(history);
  for (const auto& [prompt, reply] : replies_) {
    if (history.size() < prompt.size() || history.size() - prompt.size() >= reply.size()) continue;
    if (!std::equal(prompt.begin(), prompt.end(), history.begin())) continue;
    scripted = reply[history.size() - prompt.size()];
  }
  const int32_t favourite = scripted.value_or(expected_token(history));
  for (size_t i = 0; i < vocab_size; ++i) {
    logits[i] = static_cast<float>(random_uniform(static_cast<uint64_t>(favourite), history.size(), i));
  }
  // Scripted tokens are certain even when sampled; others leave room for chance.
  logits[favourite] = scripted ? 1000.0F : 2.0F;
}

}  // namespace mobilellm
