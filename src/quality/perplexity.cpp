// Likelihood of text under one model.
#include "quality/perplexity.h"

#include <cmath>

#include "base/thread_pool.h"
#include "base/topology.h"
#include "quality/chunk_batches.h"
#include "quality/logit_rows.h"
#include "quality/token_progress.h"

namespace mobilellm {

Estimate exponential(const Estimate& logarithm) {
  const double value = std::exp(logarithm.mean);
  return {value, value * logarithm.error};
}

Estimate TextPerplexity::perplexity() const { return exponential(nll); }

PerplexityReport measure_perplexity(Runner& runner, std::span<const TextSet> sets, const MeasureOptions& options) {
  ThreadPool pool(options.n_threads > 0 ? options.n_threads : usable_cores());
  TokenProgress progress(sets, options);
  const int vocab_size = runner.spec().vocab_size;
  const auto width = static_cast<size_t>(vocab_size);
  PerplexityReport report;
  ClusteredMean total;
  std::vector<float> logits;
  std::vector<double> losses;
  for (const TextSet& set : sets) {
    const std::vector<ChunkBatch> plan = plan_batches(set.chunks, batch_tokens(vocab_size));
    ChunkRunner chunks(runner, set.chunks, plan);
    ClusteredMean mean;
    for (const ChunkBatch& batch : plan) {
      progress.check();
      size_t row = 0;
      for (const ChunkPart& part : batch) row += static_cast<size_t>(part.end - part.begin);
      logits.resize(std::max(logits.size(), row * width));
      losses.resize(row);
      chunks.run(batch, logits.data());
      row = 0;
      for (const ChunkPart& part : batch) {
        const std::vector<int32_t>& ids = set.chunks[part.chunk];
        const auto n_ids = static_cast<int64_t>(ids.size());
        pool.run(std::min(part.end, n_ids - 1) - part.begin, [&](int64_t i, int /*worker*/) {
          const size_t at = row + static_cast<size_t>(i);
          const std::span<const float> values(logits.data() + at * width, width);
          const int32_t next = ids[static_cast<size_t>(part.begin + i) + 1];
          losses[at] = summarize_row(values).log_sum - static_cast<double>(values[static_cast<size_t>(next)]);
        });
        for (int64_t i = part.begin; i < std::min(part.end, n_ids - 1); ++i) {
          const double loss = losses[row + static_cast<size_t>(i - part.begin)];
          if (!std::isfinite(loss)) {
            fail(ErrorCode::kCorruptData,
                 "[quality] {}: a logit after token {} of chunk {} is not a number; check the model with inspect",
                 set.path, i, part.chunk);
          }
          mean.add(loss);
          total.add(loss);
        }
        if (part.end == n_ids) {
          mean.end_cluster();
          total.end_cluster();
        }
        row += static_cast<size_t>(part.end - part.begin);
      }
      progress.add(batch);
    }
    report.texts.push_back(
        {set.path, static_cast<int64_t>(set.chunks.size()), mean.n_values(), set.n_left_out, mean.estimate()});
    report.total.n_chunks += static_cast<int64_t>(set.chunks.size());
    report.total.n_left_out += set.n_left_out;
  }
  report.total.n_predicted = total.n_values();
  report.total.nll = total.estimate();
  progress.check();
  return report;
}

}  // namespace mobilellm
