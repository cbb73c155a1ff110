// Planning once a batch, then two kinds of tasks: tiles of a prompt's rows that walk through all spans, and single
// spans of rows that decode.
#include "backend/cpu/attention.h"

#include <algorithm>
#include <utility>

namespace mobilellm {
namespace {

// Rows whose keys share a cache line when stored as f16.
constexpr int64_t kStoreGroup = 32;
// A slice of so few rows reads much and computes little: its spans are shared out.
constexpr size_t kMaxSplitRows = 8;
// Bound on the rows that read one span together. More would only add arithmetic to a task.
constexpr size_t kMaxJobRows = 24;
constexpr size_t kMinTileRows = 8;
// Bound on the memory of parts.
constexpr int64_t kMaxPartFloats = int64_t{8} << 20;

int64_t part_floats(int value_stride) { return kPartHeader + value_stride; }

bool is_same_window(const AttentionWindow& a, const AttentionWindow& b) {
  return a.kind == b.kind && (a.kind == AttentionWindow::Kind::kFull || a.size == b.size);
}

// Pages of a span that a query at `pos` may read.
int pages_in_span(int64_t pos, int64_t span) {
  const int64_t n = std::min<int64_t>(pos + 1 - span * kSpanTokens, kSpanTokens);
  return static_cast<int>((n + kPageTokens - 1) / kPageTokens);
}

}  // namespace

// One call of run().
struct Attention::Task {
  int layer;
  const Plan& plan;
  const Wave* wave;
  const float* q;
  float* out;
};

Attention::Attention(const ModelSpec& spec, const KernelTable& kernels, ThreadPool& pool, KvCache& cache)
    : kernels_(kernels), pool_(pool), cache_(cache) {
  int64_t scratch_floats = 0;
  for (const LayerSpec& layer : spec.layers) {
    const auto plan = std::find_if(plans_.begin(), plans_.end(), [&](const Plan& p) {
      return is_same_window(p.window, layer.window) && p.n_heads == layer.n_heads && p.n_kv_heads == layer.n_kv_heads &&
             p.head_dim == layer.head_dim;
    });
    plan_of_layer_.push_back(static_cast<size_t>(plan - plans_.begin()));
    if (plan == plans_.end()) {
      plans_.push_back({layer.window, layer.n_heads, layer.n_kv_heads, layer.head_dim, {}, {}, {}, {}});
    }
    const int value_stride = cache_.layout(static_cast<int>(plan_of_layer_.size()) - 1).value_stride;
    scratch_floats = std::max(
        scratch_floats, attend_scratch_floats(kMaxQueries, value_stride) + kMaxQueries * part_floats(value_stride));
  }
  scratch_.resize(static_cast<size_t>(pool_.n_threads()));
  for (auto& scratch : scratch_) scratch.resize(static_cast<size_t>(scratch_floats));
}

void Attention::plan(std::span<const AttentionRow> rows) {
  rows_ = rows;
  store_groups_.clear();
  for (size_t i = 0; i < rows.size(); ++i) {
    const bool continues =
        i > 0 && rows[i].slice == rows[i - 1].slice && rows[i].pos / kStoreGroup == rows[i - 1].pos / kStoreGroup;
    if (continues) {
      store_groups_.back().end = i + 1;
    } else {
      store_groups_.push_back({i, i + 1});
    }
  }
  job_of_page_.resize(static_cast<size_t>(cache_.n_pages()), 0);
  for (Plan& plan : plans_) make_plan(plan);
}

void Attention::make_plan(Plan& plan) {
  plan.tiles.clear();
  plan.split_rows.clear();
  plan.jobs.clear();
  plan.waves.clear();
  std::vector<RowRange> whole;
  std::vector<RowRange> split;
  size_t n_whole = 0;
  for (size_t begin = 0; begin < rows_.size();) {
    size_t end = begin + 1;
    while (end < rows_.size() && rows_[end].slice == rows_[begin].slice) ++end;
    if (end - begin > kMaxSplitRows) {
      whole.push_back({begin, end});
      n_whole += end - begin;
    } else {
      split.push_back({begin, end});
    }
    begin = end;
  }
  // Tiles fill a kernel call, unless there would be too few of them for the threads.
  const auto heads_per_kv = static_cast<size_t>(plan.n_heads / plan.n_kv_heads);
  const size_t wanted_tasks = 4 * static_cast<size_t>(pool_.n_threads());
  const size_t full_tile = std::max<size_t>(1, kMaxQueries / heads_per_kv);
  const size_t tile_rows = std::clamp(n_whole * static_cast<size_t>(plan.n_kv_heads) / wanted_tasks,
                                      std::min(kMinTileRows, full_tile), full_tile);
  for (const RowRange& range : whole) {
    for (size_t begin = range.begin; begin < range.end; begin += tile_rows)
      plan.tiles.push_back({begin, std::min(begin + tile_rows, range.end)});
  }
  // The longest first: the last task to end should be a short one.
  std::sort(plan.tiles.begin(), plan.tiles.end(), [&](const RowRange& a, const RowRange& b) {
    return std::pair(rows_[a.begin].pos, b.begin) > std::pair(rows_[b.begin].pos, a.begin);
  });
  plan.waves.push_back({0, 0, 0, 0});
  for (const RowRange& range : split) add_split_rows(plan, range);
  plan.waves.back().row_end = plan.split_rows.size();
  plan.waves.back().job_end = plan.jobs.size();
}

void Attention::add_split_rows(Plan& plan, RowRange range) {
  const int value_stride = (plan.head_dim + 15) / 16 * 16;
  const int64_t max_slots = std::max<int64_t>(1, kMaxPartFloats / (plan.n_heads * part_floats(value_stride)));
  for (size_t row = range.begin; row < range.end; ++row) {
    const int64_t pos = rows_[row].pos;
    SplitRow split{row, plan.window.first_visible(pos) / kSpanTokens, 0, 0};
    split.n_spans = pos / kSpanTokens + 1 - split.first_span;
    if (plan.split_rows.size() > plan.waves.back().row_begin) {
      const SplitRow& last = plan.split_rows.back();
      split.slot = last.slot + last.n_spans;
      if (split.slot + split.n_spans > max_slots) {
        split.slot = 0;
        plan.waves.back().row_end = plan.split_rows.size();
        plan.waves.back().job_end = plan.jobs.size();
        plan.waves.push_back({plan.split_rows.size(), 0, plan.jobs.size(), 0});
      }
    }
    for (int64_t span = split.first_span; span < split.first_span + split.n_spans; ++span) {
      const int32_t* pages = rows_[row].slice->pages.data() + span * kSpanPages;
      const int n_pages = pages_in_span(pos, span);
      // Entries of earlier batches may be there: a job counts when it is what it should be.
      size_t& newest = job_of_page_[static_cast<size_t>(pages[0])];
      SpanJob* job = newest >= plan.waves.back().job_begin && newest < plan.jobs.size() ? &plan.jobs[newest] : nullptr;
      const bool fits = job != nullptr && job->span == span && job->rows.size() < kMaxJobRows &&
                        std::equal(pages, pages + std::min(n_pages, job->n_pages), job->pages);
      if (!fits) {
        newest = plan.jobs.size();
        plan.jobs.push_back({span, pages, n_pages, {}});
        job = &plan.jobs.back();
      }
      if (n_pages > job->n_pages) {
        job->pages = pages;
        job->n_pages = n_pages;
      }
      job->rows.push_back(plan.split_rows.size());
    }
    plan.split_rows.push_back(split);
  }
}

void Attention::run(int layer, const float* q, float* out) {
  const Plan& plan = plans_[plan_of_layer_[static_cast<size_t>(layer)]];
  const auto n_kv_heads = static_cast<size_t>(plan.n_kv_heads);
  for (const Wave& wave : plan.waves) {
    const size_t n_rows = wave.row_end - wave.row_begin;
    if (n_rows > 0) {
      const SplitRow& last = plan.split_rows[wave.row_end - 1];
      const auto n_floats = static_cast<size_t>((last.slot + last.n_spans) * plan.n_heads *
                                                part_floats(cache_.layout(layer).value_stride));
      if (parts_.size() < n_floats) parts_.resize(n_floats);
      if (n_spans_left_ < n_rows * n_kv_heads) {
        n_spans_left_ = n_rows * n_kv_heads;
        spans_left_ = std::make_unique<std::atomic<int>[]>(n_spans_left_);
      }
      for (size_t i = 0; i < n_rows * n_kv_heads; ++i) {
        const int64_t n_spans = plan.split_rows[wave.row_begin + i / n_kv_heads].n_spans;
        spans_left_[i].store(static_cast<int>(n_spans), std::memory_order_relaxed);
      }
    }
    const Task task{layer, plan, &wave, q, out};
    const size_t n_tile_tasks = &wave == plan.waves.data() ? plan.tiles.size() * n_kv_heads : 0;
    const size_t n_job_tasks = (wave.job_end - wave.job_begin) * n_kv_heads;
    pool_.run(static_cast<int64_t>(n_tile_tasks + n_job_tasks), [&](int64_t index, int worker) {
      const auto i = static_cast<size_t>(index);
      float* scratch = scratch_[static_cast<size_t>(worker)].data();
      if (i < n_tile_tasks) {
        run_tile(task, plan.tiles[i / n_kv_heads], static_cast<int>(i % n_kv_heads), scratch);
      } else {
        run_job(task, i - n_tile_tasks, n_job_tasks, scratch);
      }
    });
  }
}

// All spans of a tile's rows for the heads that share a KV head.
void Attention::run_tile(const Task& task, RowRange tile, int kv_head, float* scratch) {
  const Plan& plan = task.plan;
  const KvLayout& layout = cache_.layout(task.layer);
  const size_t heads_per_kv = static_cast<size_t>(plan.n_heads / plan.n_kv_heads);
  const auto head_dim = static_cast<size_t>(plan.head_dim);
  const auto part_size = static_cast<size_t>(part_floats(layout.value_stride));
  float* parts = scratch + attend_scratch_floats(kMaxQueries, layout.value_stride);
  const size_t n_queries = (tile.end - tile.begin) * heads_per_kv;
  // Query i: row by row, heads within. Its place in q and out is the same.
  const auto row_of = [&](size_t i) { return tile.begin + i / heads_per_kv; };
  const auto offset_of = [&](size_t i) {
    return (row_of(i) * static_cast<size_t>(plan.n_heads) + static_cast<size_t>(kv_head) * heads_per_kv +
            i % heads_per_kv) *
           head_dim;
  };
  for (size_t begin = 0; begin < n_queries; begin += kMaxQueries) {
    const size_t end = std::min<size_t>(n_queries, begin + kMaxQueries);
    for (size_t i = begin; i < end; ++i) parts[(i - begin) * part_size + 1] = 0;
    const int64_t last_pos = rows_[row_of(end - 1)].pos;
    const int64_t first_span = plan.window.first_visible(rows_[row_of(begin)].pos) / kSpanTokens;
    for (int64_t span = first_span; span <= last_pos / kSpanTokens; ++span) {
      SpanQuery queries[kMaxQueries];
      int n = 0;
      for (size_t i = begin; i < end; ++i) {
        const int64_t pos = rows_[row_of(i)].pos;
        const int64_t lo = std::max<int64_t>(plan.window.first_visible(pos) - span * kSpanTokens, 0);
        const int64_t hi = std::min<int64_t>(pos + 1 - span * kSpanTokens, kSpanTokens);
        if (lo >= hi) continue;
        queries[n++] = {task.q + offset_of(i), parts + (i - begin) * part_size, static_cast<int>(lo),
                        static_cast<int>(hi)};
      }
      if (n == 0) continue;
      cache_.attend({queries, n, rows_[tile.begin].slice->pages.data() + span * kSpanPages,
                     cache_.head(task.layer, kv_head), cache_.page_bytes(task.layer), plan.head_dim, layout, scratch,
                     nullptr, nullptr, 0, true});
    }
    for (size_t i = begin; i < end; ++i) {
      kernels_.merge_spans({parts + (i - begin) * part_size, 0, 1, plan.head_dim, task.out + offset_of(i)});
    }
  }
}

// One span of the rows that share it, for the heads that share a KV head. Whoever ends a row's last span merges it.
void Attention::run_job(const Task& task, size_t job_task, size_t job_task_end, float* scratch) {
  const Plan& plan = task.plan;
  const KvLayout& layout = cache_.layout(task.layer);
  const auto n_kv_heads = static_cast<size_t>(plan.n_kv_heads);
  const auto job_at = [&](size_t i) -> const SpanJob& { return plan.jobs[task.wave->job_begin + i / n_kv_heads]; };
  const SpanJob& job = job_at(job_task);
  const auto kv_head = static_cast<int>(job_task % n_kv_heads);
  const size_t next_task = job_task + 1;
  const SpanJob* next = next_task < job_task_end ? &job_at(next_task) : nullptr;
  const int heads_per_kv = plan.n_heads / plan.n_kv_heads;
  const int64_t part_size = part_floats(layout.value_stride);

  SpanQuery queries[kMaxQueries];
  int n = 0;
  const auto flush = [&] {
    if (n == 0) return;
    cache_.attend({queries, n, job.pages, cache_.head(task.layer, kv_head), cache_.page_bytes(task.layer),
                   plan.head_dim, layout, scratch,
                   next == nullptr ? nullptr : cache_.head(task.layer, static_cast<int>(next_task % n_kv_heads)),
                   next == nullptr ? nullptr : next->pages, next == nullptr ? 0 : next->n_pages, false});
    n = 0;
  };
  for (const size_t index : job.rows) {
    const SplitRow& row = plan.split_rows[index];
    const int64_t pos = rows_[row.row].pos;
    const int64_t lo = std::max<int64_t>(plan.window.first_visible(pos) - job.span * kSpanTokens, 0);
    const int64_t hi = std::min<int64_t>(pos + 1 - job.span * kSpanTokens, kSpanTokens);
    for (int head = kv_head * heads_per_kv; head < (kv_head + 1) * heads_per_kv; ++head) {
      const int64_t slot = row.slot + job.span - row.first_span;
      queries[n++] = {task.q + (static_cast<int64_t>(row.row) * plan.n_heads + head) * plan.head_dim,
                      parts_.data() + (slot * plan.n_heads + head) * part_size, static_cast<int>(lo),
                      static_cast<int>(hi)};
      if (n == kMaxQueries) flush();
    }
  }
  flush();
  for (const size_t index : job.rows) {
    const size_t counter = (index - task.wave->row_begin) * n_kv_heads + static_cast<size_t>(kv_head);
    if (spans_left_[counter].fetch_sub(1, std::memory_order_acq_rel) != 1) continue;
    for (int head = kv_head * heads_per_kv; head < (kv_head + 1) * heads_per_kv; ++head) {
      const SplitRow& row = plan.split_rows[index];
      kernels_.merge_spans({parts_.data() + (row.slot * plan.n_heads + head) * part_size, plan.n_heads * part_size,
                            static_cast<int>(row.n_spans), plan.head_dim,
                            task.out + (static_cast<int64_t>(row.row) * plan.n_heads + head) * plan.head_dim});
    }
  }
}

}  // namespace mobilellm
