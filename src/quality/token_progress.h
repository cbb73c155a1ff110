/// How far a measurement is, over all its files, and whether it shall go on.
#pragma once

#include <span>

#include "base/error.h"
#include "quality/chunk_batches.h"
#include "quality/perplexity.h"

namespace mobilellm {

class TokenProgress {
 public:
  TokenProgress(std::span<const TextSet> sets, const MeasureOptions& options) : options_(options) {
    for (const TextSet& set : sets) {
      for (const std::vector<int32_t>& chunk : set.chunks) n_tokens_ += static_cast<int64_t>(chunk.size());
    }
  }

  /// Before a batch. Throws kCancelled.
  void check() const {
    if (options_.cancel != nullptr && options_.cancel->load(std::memory_order_relaxed)) {
      fail(ErrorCode::kCancelled, "[quality] stopped after {} of {} tokens", n_done_, n_tokens_);
    }
    if (options_.on_progress && n_tokens_ > 0) {
      options_.on_progress(static_cast<double>(n_done_) / static_cast<double>(n_tokens_));
    }
  }

  /// After it.
  void add(const ChunkBatch& batch) {
    for (const ChunkPart& part : batch) n_done_ += part.end - part.begin;
  }

 private:
  const MeasureOptions& options_;
  int64_t n_tokens_ = 0;
  int64_t n_done_ = 0;
};

}  // namespace mobilellm
