/// Attention of a batch of rows over the paged cache: what is computed together, and by which thread.
///
/// A query's positions are cut into spans of kSpanTokens, counted from position 0. Every span is computed on its own
/// and the spans are merged in rising order, so the result is the same bits however the work is shared out.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "backend/cpu/kv_cache.h"
#include "base/thread_pool.h"
#include "kernels/kernels.h"
#include "model/spec.h"

namespace mobilellm {

/// One token of a batch. Rows of a slice follow each other in rising positions.
struct AttentionRow {
  int64_t pos;
  const SequenceSlice* slice;
};

class Attention {
 public:
  /// The arguments must outlive this.
  Attention(const ModelSpec& spec, const KernelTable& kernels, ThreadPool& pool, KvCache& cache);

  /// Shares out the work of the rows of the next run() calls.
  void plan(std::span<const AttentionRow> rows);

  /// Half-open range of rows.
  struct RowRange {
    size_t begin;
    size_t end;
  };
  /// Rows in groups that store to different cache lines: one thread should store each group.
  std::span<const RowRange> store_groups() const { return store_groups_; }

  /// out[row][head][head_dim] of every planned row, from scaled queries [row][head][head_dim]. The rows' own keys and
  /// values must be stored. `out` may not be `q`.
  void run(int layer, const float* q, float* out);

 private:
  // Rows that share a few pages of one span: neighbours in one slice, or sequences with a common prefix.
  struct SpanJob {
    int64_t span;
    const int32_t* pages;
    int n_pages;
    std::vector<size_t> rows;  // Indexes into Plan::split_rows.
  };
  // A row whose spans are computed by different tasks.
  struct SplitRow {
    size_t row;
    int64_t first_span;
    int64_t n_spans;
    int64_t slot;  // Of its first part.
  };
  // Split rows and jobs whose parts are in memory at the same time.
  struct Wave {
    size_t row_begin, row_end;
    size_t job_begin, job_end;
  };
  // What layers of the same shape and window share.
  struct Plan {
    AttentionWindow window;
    int n_heads;
    int n_kv_heads;
    int head_dim;
    std::vector<RowRange> tiles;  // Rows of a slice that one task takes through all spans.
    std::vector<SplitRow> split_rows;
    std::vector<SpanJob> jobs;
    std::vector<Wave> waves;
  };
  struct Task;

  void make_plan(Plan& plan);
  void add_split_rows(Plan& plan, RowRange range);
  void run_tile(const Task& task, RowRange tile, int kv_head, float* scratch);
  void run_job(const Task& task, size_t job_task, size_t job_task_end, float* scratch);

  const KernelTable& kernels_;
  ThreadPool& pool_;
  KvCache& cache_;
  std::vector<Plan> plans_;
  std::vector<size_t> plan_of_layer_;
  std::span<const AttentionRow> rows_;
  std::vector<RowRange> store_groups_;
  std::vector<size_t> job_of_page_;  // While planning: the newest job that starts with this page.
  std::vector<float> parts_;
  std::unique_ptr<std::atomic<int>[]> spans_left_;  // Per split row of the wave and KV head.
  size_t n_spans_left_ = 0;
  std::vector<std::vector<float>> scratch_;  // Per worker.
};

}  // namespace mobilellm
