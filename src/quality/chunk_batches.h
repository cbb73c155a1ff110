/// Chunks of ids run through a runner in batches whose logits fit a bound of memory.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "backend/backend.h"

namespace mobilellm {

/// Tokens [begin, end) of a chunk.
struct ChunkPart {
  size_t chunk = 0;
  int64_t begin = 0;
  int64_t end = 0;
};
using ChunkBatch = std::vector<ChunkPart>;

/// Tokens of one batch at most: enough to read each weight rarely, with logits of at most 128 MB unless a vocabulary is
/// so large that 16 rows need more.
int64_t batch_tokens(int vocab_size);

/// Chunks in order, several in a batch where they fit. A chunk longer than max_tokens is cut into batches of its own.
std::vector<ChunkBatch> plan_batches(std::span<const std::vector<int32_t>> chunks, int64_t max_tokens);

/// Runs the batches of one plan in their order. Each chunk is a sequence of its own.
class ChunkRunner {
 public:
  /// Reserves pages. Both arguments must live as long as this does.
  ChunkRunner(Runner& runner, std::span<const std::vector<int32_t>> chunks, std::span<const ChunkBatch> plan);
  /// Logits [tokens of the batch, vocab_size] of every token, the rows in the order of the parts.
  void run(const ChunkBatch& batch, float* logits);

 private:
  Runner& runner_;
  std::span<const std::vector<int32_t>> chunks_;
  std::vector<std::vector<int32_t>> pages_;  // Of each place in a batch.
};

}  // namespace mobilellm
