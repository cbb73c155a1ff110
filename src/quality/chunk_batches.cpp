// Planning batches and running them.
#include "quality/chunk_batches.h"

#include <algorithm>
#include <numeric>

#include "base/error.h"

namespace mobilellm {
namespace {

constexpr int64_t kMaxBatchTokens = 512;
constexpr int64_t kMinBatchTokens = 16;
constexpr int64_t kLogitBytes = int64_t{128} << 20;

}  // namespace

int64_t batch_tokens(int vocab_size) {
  const int64_t row_bytes = int64_t{std::max(vocab_size, 1)} * static_cast<int64_t>(sizeof(float));
  return std::clamp(kLogitBytes / row_bytes, kMinBatchTokens, kMaxBatchTokens);
}

std::vector<ChunkBatch> plan_batches(std::span<const std::vector<int32_t>> chunks, int64_t max_tokens) {
  std::vector<ChunkBatch> plan;
  int64_t filled = max_tokens;  // Of the last batch; full at first, so that a new one begins.
  for (size_t i = 0; i < chunks.size(); ++i) {
    const auto size = static_cast<int64_t>(chunks[i].size());
    if (size == 0) continue;
    if (size > max_tokens) {
      for (int64_t begin = 0; begin < size; begin += max_tokens) {
        plan.push_back({ChunkPart{i, begin, std::min(begin + max_tokens, size)}});
      }
      filled = max_tokens;
      continue;
    }
    if (filled + size > max_tokens) {
      plan.emplace_back();
      filled = 0;
    }
    plan.back().push_back({i, 0, size});
    filled += size;
  }
  return plan;
}

ChunkRunner::ChunkRunner(Runner& runner, std::span<const std::vector<int32_t>> chunks, std::span<const ChunkBatch> plan)
    : runner_(runner), chunks_(chunks) {
  size_t longest = 0;
  for (const std::vector<int32_t>& chunk : chunks) longest = std::max(longest, chunk.size());
  if (static_cast<int64_t>(longest) > runner.spec().max_context) {
    fail(ErrorCode::kContextExceeded, "[quality] chunks: got {} tokens, expected at most {}, the model's context",
         longest, runner.spec().max_context);
  }
  size_t n_places = 0;
  for (const ChunkBatch& batch : plan) n_places = std::max(n_places, batch.size());
  const auto page_tokens = static_cast<size_t>(runner.page_tokens());
  const size_t n_pages = (longest + page_tokens - 1) / page_tokens;
  pages_.resize(n_places, std::vector<int32_t>(n_pages));
  for (size_t place = 0; place < n_places; ++place) {
    std::iota(pages_[place].begin(), pages_[place].end(), static_cast<int32_t>(place * n_pages));
  }
  runner.reserve_pages(static_cast<int>(n_places * n_pages));
}

void ChunkRunner::run(const ChunkBatch& batch, float* logits) {
  std::vector<SequenceSlice> slices;
  for (size_t place = 0; place < batch.size(); ++place) {
    const ChunkPart& part = batch[place];
    const int64_t size = part.end - part.begin;
    const std::span<const int32_t> tokens =
        std::span(chunks_[part.chunk]).subspan(static_cast<size_t>(part.begin), static_cast<size_t>(size));
    slices.push_back({tokens, part.begin, pages_[place], static_cast<int>(size)});
  }
  runner_.forward(slices, logits);
}

}  // namespace mobilellm
