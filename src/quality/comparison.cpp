// Divergence between two models, position by position.
#include "quality/comparison.h"

#include <algorithm>
#include <cmath>
#include <tuple>

#include "base/error.h"
#include "base/thread_pool.h"
#include "base/topology.h"
#include "quality/chunk_batches.h"
#include "quality/logit_rows.h"
#include "quality/token_progress.h"

namespace mobilellm {
namespace {

// What one position contributes.
struct Position {
  RowPair rows;
  double loss_a = 0, loss_b = 0;  // Of the next token, when there is one.
  double a_of_a = 0, a_of_b = 0, b_of_a = 0, b_of_b = 0;
};

double probability(std::span<const float> logits, const RowSummary& row, int32_t token) {
  return std::exp(static_cast<double>(logits[static_cast<size_t>(token)]) - row.log_sum);
}

// Sums of a text, or of all.
struct Totals {
  ClusteredMean kl, loss_a, loss_b, change, same;
  std::vector<float> kls;

  void end_cluster() {
    for (ClusteredMean* mean : {&kl, &loss_a, &loss_b, &change, &same}) mean->end_cluster();
  }

  void finish(TextComparison& text) {
    text.n_positions = kl.n_values();
    text.n_predicted = change.n_values();
    text.kl = kl.estimate();
    text.kl_median = percentile(kls, 0.5);
    text.kl_p90 = percentile(kls, 0.9);
    text.kl_p99 = percentile(kls, 0.99);
    text.kl_max = percentile(kls, 1.0);
    text.nll_a = loss_a.estimate();
    text.nll_b = loss_b.estimate();
    text.nll_change = change.estimate();
    text.top1_agreement = same.estimate();
  }
};

class ModelComparison {
 public:
  ModelComparison(Runner& a, Runner& b, std::span<const TextSet> sets, const CompareOptions& options)
      : a_(a),
        b_(b),
        sets_(sets),
        options_(options),
        progress_(sets, options),
        pool_(options.n_threads > 0 ? options.n_threads : usable_cores()),
        width_(static_cast<size_t>(a.spec().vocab_size)) {
    if (a.spec().vocab_size != b.spec().vocab_size) {
      fail(ErrorCode::kInvalidArgument,
           "[quality] vocabularies: got {} and {} tokens, expected the same; only models with one vocabulary can be "
           "compared",
           a.spec().vocab_size, b.spec().vocab_size);
    }
  }

  ComparisonReport run() {
    for (size_t i = 0; i < sets_.size(); ++i) run_set(i);
    total_.finish(report_.total);
    sort_flips();
    progress_.check();
    return std::move(report_);
  }

 private:
  void run_set(size_t index) {
    const TextSet& set = sets_[index];
    const std::vector<ChunkBatch> plan = plan_batches(set.chunks, batch_tokens(a_.spec().vocab_size));
    ChunkRunner chunks_a(a_, set.chunks, plan);
    ChunkRunner chunks_b(b_, set.chunks, plan);
    Totals totals;
    for (const ChunkBatch& batch : plan) {
      progress_.check();
      size_t n_rows = 0;
      for (const ChunkPart& part : batch) n_rows += static_cast<size_t>(part.end - part.begin);
      logits_a_.resize(std::max(logits_a_.size(), n_rows * width_));
      logits_b_.resize(logits_a_.size());
      chunks_a.run(batch, logits_a_.data());
      chunks_b.run(batch, logits_b_.data());
      size_t row = 0;
      for (const ChunkPart& part : batch) {
        score(set.chunks[part.chunk], part, row);
        add(index, part, totals);
        row += static_cast<size_t>(part.end - part.begin);
      }
      progress_.add(batch);
    }
    TextComparison text;
    text.path = set.path;
    text.n_chunks = static_cast<int64_t>(set.chunks.size());
    text.n_left_out = set.n_left_out;
    totals.finish(text);
    report_.total.n_chunks += text.n_chunks;
    report_.total.n_left_out += text.n_left_out;
    report_.texts.push_back(std::move(text));
  }

  // Fills positions_ for a part whose logits begin at `first_row`.
  void score(const std::vector<int32_t>& ids, const ChunkPart& part, size_t first_row) {
    positions_.assign(static_cast<size_t>(part.end - part.begin), {});
    pool_.run(part.end - part.begin, [&](int64_t i, int /*worker*/) {
      const size_t at = (first_row + static_cast<size_t>(i)) * width_;
      const std::span<const float> a(logits_a_.data() + at, width_);
      const std::span<const float> b(logits_b_.data() + at, width_);
      Position& position = positions_[static_cast<size_t>(i)];
      const RowPair& rows = position.rows = compare_rows(a, b);
      const auto next = static_cast<size_t>(part.begin + i) + 1;
      if (next < ids.size()) {
        const auto token = static_cast<size_t>(ids[next]);
        position.loss_a = rows.a.log_sum - static_cast<double>(a[token]);
        position.loss_b = rows.b.log_sum - static_cast<double>(b[token]);
      }
      if (rows.a.top != rows.b.top) {
        position.a_of_a = probability(a, rows.a, rows.a.top);
        position.a_of_b = probability(b, rows.b, rows.a.top);
        position.b_of_a = probability(a, rows.a, rows.b.top);
        position.b_of_b = probability(b, rows.b, rows.b.top);
      }
    });
  }

  // In the order of the text, so that sums are the same for any number of threads.
  void add(size_t set, const ChunkPart& part, Totals& totals) {
    const auto n_ids = static_cast<int64_t>(sets_[set].chunks[part.chunk].size());
    for (int64_t at = part.begin; at < part.end; ++at) {
      const Position& position = positions_[static_cast<size_t>(at - part.begin)];
      const double kl = position.rows.kl;
      if (!std::isfinite(kl) || !std::isfinite(position.loss_a) || !std::isfinite(position.loss_b)) {
        fail(ErrorCode::kCorruptData,
             "[quality] {}: a logit of model {} after token {} of chunk {} is not a number; check it with inspect",
             sets_[set].path, std::isfinite(position.rows.a.log_sum) ? "B" : "A", at, part.chunk);
      }
      const bool is_same = position.rows.a.top == position.rows.b.top;
      for (Totals* sums : {&totals, &total_}) {
        sums->kl.add(kl);
        sums->kls.push_back(static_cast<float>(kl));
        sums->same.add(is_same ? 1 : 0);
        if (at + 1 == n_ids) continue;
        sums->loss_a.add(position.loss_a);
        sums->loss_b.add(position.loss_b);
        sums->change.add(position.loss_b - position.loss_a);
      }
      if (!is_same)
        add_flip({set, part.chunk, at, position.rows.a.top, position.rows.b.top, position.a_of_a, position.a_of_b,
                  position.b_of_a, position.b_of_b, kl});
    }
    if (part.end != n_ids) return;
    totals.end_cluster();
    total_.end_cluster();
  }

  void add_flip(const Flip& flip) {
    ++report_.n_flips;
    if (options_.max_flips == 0) return;
    report_.flips.push_back(flip);
    if (report_.flips.size() < 2 * options_.max_flips + 64) return;
    sort_flips();
  }

  void sort_flips() {
    const auto order = [](const Flip& flip) {
      return std::tuple(flip.b_of_a - flip.a_of_a, flip.set, flip.chunk, flip.position);
    };
    std::sort(report_.flips.begin(), report_.flips.end(),
              [&](const Flip& x, const Flip& y) { return order(x) < order(y); });
    if (report_.flips.size() > options_.max_flips) report_.flips.resize(options_.max_flips);
  }

  Runner& a_;
  Runner& b_;
  std::span<const TextSet> sets_;
  const CompareOptions& options_;
  TokenProgress progress_;
  ThreadPool pool_;
  size_t width_;
  std::vector<float> logits_a_, logits_b_;
  std::vector<Position> positions_;
  Totals total_;
  ComparisonReport report_;
};

}  // namespace

ComparisonReport compare_models(Runner& a, Runner& b, std::span<const TextSet> sets, const CompareOptions& options) {
  return ModelComparison(a, b, sets, options).run();
}

}  // namespace mobilellm
