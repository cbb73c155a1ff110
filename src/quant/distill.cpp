// The loop of distillation.
#include "quant/distill.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "backprop/decoder.h"
#include "backprop/output_loss.h"
#include "base/error.h"
#include "base/random.h"
#include "base/thread_pool.h"

namespace mobilellm {
namespace {

using Chunks = std::vector<std::vector<int32_t>>;

// Bytes of activations from which on layers are computed twice instead.
constexpr int64_t kMaxActivationBytes = int64_t{3} << 30;

int64_t activation_bytes(const ModelSpec& spec, int64_t n_tokens) {
  int64_t floats = 0;
  for (const LayerSpec& layer : spec.layers) {
    const int64_t heads = int64_t{2 * layer.n_heads + 2 * layer.n_kv_heads} * layer.head_dim;
    floats += 4 * int64_t{spec.d_model} + heads + 3 * int64_t{layer.d_ff} + 2 * int64_t{layer.d_ff_plain};
  }
  return floats * n_tokens * static_cast<int64_t>(sizeof(float));
}

// Warm-up over a twentieth, then half a cosine down to 0.
double rate_factor(int64_t step, int64_t n_steps) {
  const double warm_up = std::max(1.0, static_cast<double>(n_steps) / 20.0);
  const auto at = static_cast<double>(step);
  if (at < warm_up) return (at + 1.0) / (warm_up + 1.0);
  constexpr double kPi = 3.14159265358979323846;
  return 0.5 * (1.0 + std::cos(kPi * (at - warm_up) / (static_cast<double>(n_steps) - warm_up + 1.0)));
}

// A permutation of [0, n) for a pass over the chunks.
std::vector<size_t> shuffled(size_t n, uint64_t seed, uint64_t pass) {
  std::vector<std::pair<uint64_t, size_t>> keys;
  keys.reserve(n);
  for (size_t i = 0; i < n; ++i) keys.emplace_back(random_bits(seed, 1 + pass, i), i);
  std::sort(keys.begin(), keys.end());
  std::vector<size_t> order;
  order.reserve(n);
  for (const auto& [key, i] : keys) order.push_back(i);
  return order;
}

struct Batch {
  std::vector<int32_t> tokens;
  std::vector<int64_t> lengths;

  void add(const std::vector<int32_t>& chunk) {
    tokens.insert(tokens.end(), chunk.begin(), chunk.end());
    lengths.push_back(static_cast<int64_t>(chunk.size()));
  }
  TokenBatch view() const { return {tokens, lengths}; }
};

class Distillation {
 public:
  Distillation(const ModelSpec& spec, const ModelWeights& teacher, AffineStudent& student,
               const DistillOptions& options, ThreadPool& pool)
      : spec_(spec),
        options_(options),
        teacher_(teacher, pool),
        student_(student),
        teacher_decoder_(spec, false, pool),
        decoder_(spec, activation_bytes(spec, options.batch_tokens) > kMaxActivationBytes, pool),
        loss_(spec, pool) {}

  AffineStudent::Snapshot run(const Chunks& train, const Chunks& held_out, DistillReport& report) {
    for (const auto& chunk : held_out) {
      if (checks_.empty() ||
          static_cast<int64_t>(checks_.back().tokens.size() + chunk.size()) > options_.batch_tokens) {
        checks_.emplace_back();
      }
      checks_.back().add(chunk);
    }
    AffineStudent::Snapshot best = student_.snapshot();
    if (options_.resumed) {
      report = *options_.resumed;
    } else {
      progress(0, 0.0);
      report.before = report.after = measure();
    }
    const int64_t n_done = report.best_step;
    double last = report.after;
    uint64_t pass = 0;
    std::vector<size_t> order = shuffled(train.size(), options_.seed, pass);
    size_t next = 0;
    for (int64_t step = 0; step < options_.n_steps; ++step) {
      Batch batch;
      while (batch.tokens.empty() ||
             static_cast<int64_t>(batch.tokens.size() + train[order[next]].size()) <= options_.batch_tokens) {
        batch.add(train[order[next]]);
        if (++next < order.size()) continue;
        next = 0;
        order = shuffled(train.size(), options_.seed, ++pass);
      }
      if (step < n_done) continue;
      train_on(batch, step);
      progress(step + 1, last);
      if ((step + 1) % options_.steps_per_check != 0 && step + 1 != options_.n_steps) continue;
      last = measure();
      if (!checks_.empty() && !(last < report.after)) continue;
      report.after = last;
      report.best_step = step + 1;
      best = student_.snapshot();
      if (options_.on_better) options_.on_better(report);
    }
    return best;
  }

 private:
  void progress(int64_t steps, double held_out) const {
    if (options_.on_progress) options_.on_progress(steps, held_out);
  }

  void train_on(const Batch& batch, int64_t step) {
    const size_t n = batch.tokens.size();
    teacher_hidden_.resize(n * static_cast<size_t>(spec_.d_model));
    hidden_.resize(teacher_hidden_.size());
    d_hidden_.resize(teacher_hidden_.size());
    const double factor = rate_factor(step, options_.n_steps);
    student_.set_step({step + 1, options_.grid_rate * factor, options_.code_rate * factor});
    teacher_decoder_.forward(teacher_, batch.view(), false, teacher_hidden_.data());
    decoder_.forward(student_, batch.view(), true, hidden_.data());
    const std::vector<uint8_t> counts(n, 1);
    loss_.divergence(teacher_, teacher_hidden_.data(), spec_, student_, hidden_.data(), counts, 1.0,
                     1.0 / static_cast<double>(n), d_hidden_.data(), student_.start_table());
    decoder_.backward(student_, d_hidden_.data(), student_);
    student_.end_table();
  }

  double measure() {
    double sum = 0.0;
    int64_t n_tokens = 0;
    for (size_t i = 0; i < checks_.size(); ++i) {
      const Batch& batch = checks_[i];
      hidden_.resize(batch.tokens.size() * static_cast<size_t>(spec_.d_model));
      if (check_hidden_.size() <= i) {
        std::vector<float>& hidden = check_hidden_.emplace_back(hidden_.size());
        teacher_decoder_.forward(teacher_, batch.view(), false, hidden.data());
      }
      decoder_.forward(student_, batch.view(), false, hidden_.data());
      const std::vector<uint8_t> counts(batch.tokens.size(), 1);
      const LossResult result = loss_.divergence(teacher_, check_hidden_[i].data(), spec_, student_, hidden_.data(),
                                                 counts, 1.0, 1.0, nullptr, nullptr);
      sum += result.sum;
      n_tokens += result.n_tokens;
    }
    return n_tokens == 0 ? 0.0 : sum / static_cast<double>(n_tokens);
  }

  const ModelSpec& spec_;
  const DistillOptions& options_;
  ModelWeightReader teacher_;
  AffineStudent& student_;
  Decoder teacher_decoder_, decoder_;
  OutputLoss loss_;
  std::vector<Batch> checks_;
  std::vector<std::vector<float>> check_hidden_;  // The teacher's, of each check.
  std::vector<float> teacher_hidden_, hidden_, d_hidden_;
};

}  // namespace

AffineStudent::Snapshot distill(const ModelSpec& spec, const ModelWeights& teacher, AffineStudent& student,
                                const Chunks& train, const Chunks& held_out, const DistillOptions& options,
                                ThreadPool& pool, DistillReport& report) {
  if (train.empty()) fail(ErrorCode::kInvalidArgument, "[quant] distillation: got no text to train on");
  return Distillation(spec, teacher, student, options, pool).run(train, held_out, report);
}

}  // namespace mobilellm
