// Logits of a slice of tokens, their gradients in place, and the products that carry them back.
#include "backprop/output_loss.h"

#include <algorithm>
#include <cmath>

#include "base/cpu_features.h"
#include "base/error.h"
#include "base/random.h"
#include "base/thread_pool.h"

namespace mobilellm {
namespace {

// Logits of one slice at most (128 MB).
constexpr int64_t kSliceFloats = int64_t{32} << 20;
// Rows of the table that are decoded at once.
constexpr int64_t kTableRows = 8192;

}  // namespace

OutputLoss::OutputLoss(const ModelSpec& spec, ThreadPool& pool)
    : spec_(spec), kernels_(kernel_table(select_isa())), pool_(pool), product_(pool) {}

void OutputLoss::compute_logits(WeightReader& weights, TensorRole role, const float* hidden, int64_t width, int64_t n,
                                std::vector<float>& logits) {
  const int64_t vocab = spec_.vocab_size;
  logits.resize(static_cast<size_t>(n * vocab));
  for (int64_t row = 0; row < vocab; row += kTableRows) {
    const int64_t end = std::min(vocab, row + kTableRows);
    const float* w = weights.rows(role, -1, row, end, table_);
    product_.run(row_major(hidden, width), row_major(w, width).transposed(), n, end - row, width, logits.data() + row,
                 vocab, false);
  }
}

template <typename RowLoss>
LossResult OutputLoss::run(WeightReader& weights, const float* hidden, int64_t n_tokens, float* d_hidden,
                           float* d_table, RowLoss row_loss) {
  const int64_t vocab = spec_.vocab_size;
  const int64_t d_model = spec_.d_model;
  const int64_t slice = std::clamp<int64_t>(kSliceFloats / vocab, 16, 512);
  const TensorRole role = output_role(spec_);
  std::vector<double> losses(static_cast<size_t>(n_tokens), 0.0);
  std::vector<uint8_t> is_counted(static_cast<size_t>(n_tokens), 0);
  for (int64_t first = 0; first < n_tokens; first += slice) {
    const int64_t n = std::min(slice, n_tokens - first);
    compute_logits(weights, role, hidden + first * d_model, d_model, n, logits_);
    row_loss.begin(first, n);
    pool_.run(n, [&](int64_t i, int /*worker*/) {
      const auto at = static_cast<size_t>(first + i);
      is_counted[at] = row_loss(first + i, i, logits_.data() + i * vocab, losses[at]) ? 1 : 0;
    });
    row_loss.end(first, n);
    if (d_hidden != nullptr) {
      for (int64_t row = 0; row < vocab; row += kTableRows) {
        const int64_t end = std::min(vocab, row + kTableRows);
        const float* w = weights.rows(role, -1, row, end, table_);
        product_.run(row_major(logits_.data() + row, vocab), row_major(w, d_model), n, d_model, end - row,
                     d_hidden + first * d_model, d_model, row > 0);
      }
    }
    if (d_table != nullptr) {
      product_.run(row_major(logits_.data(), vocab).transposed(), row_major(hidden + first * d_model, d_model), vocab,
                   d_model, n, d_table, d_model, true);
    }
  }
  LossResult result;
  for (size_t i = 0; i < losses.size(); ++i) {
    if (is_counted[i] == 0) continue;
    result.sum += losses[i];
    ++result.n_tokens;
  }
  return result;
}

namespace {

struct NoHooks {
  void begin(int64_t /*first*/, int64_t /*n*/) const {}
  void end(int64_t /*first*/, int64_t /*n*/) const {}
};

double log_sum(const float* max_and_sum) {
  return static_cast<double>(max_and_sum[0]) + std::log(static_cast<double>(max_and_sum[1]));
}

struct CrossEntropyRow : NoHooks {
  const KernelTable& kernels;
  std::span<const int32_t> labels;
  int64_t vocab;
  float factor;

  CrossEntropyRow(const KernelTable& table, std::span<const int32_t> all_labels, int64_t size, double scale)
      : kernels(table), labels(all_labels), vocab(size), factor(static_cast<float>(scale)) {}
  bool operator()(int64_t token, int64_t /*row*/, float* logits, double& loss) const {
    const int32_t label = labels[static_cast<size_t>(token)];
    if (label == kNoLabel) {
      std::fill_n(logits, vocab, 0.0F);
      return false;
    }
    const auto logit = static_cast<double>(logits[label]);
    float stats[2];
    kernels.softmax({logits, logits, vocab, factor, stats});
    logits[label] -= factor;
    loss = log_sum(stats) - logit;
    return true;
  }
};

}  // namespace

LossResult OutputLoss::cross_entropy(WeightReader& weights, const float* hidden, std::span<const int32_t> labels,
                                     double factor, float* d_hidden, float* d_table) {
  for (const int32_t label : labels) MOBILELLM_CHECK(label == kNoLabel || (label >= 0 && label < spec_.vocab_size));
  return run(weights, hidden, static_cast<int64_t>(labels.size()), d_hidden, d_table,
             CrossEntropyRow(kernels_, labels, spec_.vocab_size, factor));
}

LossResult OutputLoss::sampled(WeightReader& weights, const float* hidden, std::span<const double> draws, double factor,
                               float* d_hidden, float* d_table,
                               const std::function<void(int64_t, int64_t, const float*)>& observe) {
  struct Row {
    OutputLoss& self;
    std::span<const double> draws;
    float factor;
    const std::function<void(int64_t, int64_t, const float*)>& observe;

    void begin(int64_t /*first*/, int64_t /*n*/) const {}
    void end(int64_t first, int64_t n) const {
      if (observe) observe(first, n, self.logits_.data());
    }
    bool operator()(int64_t token, int64_t /*row*/, float* logits, double& loss) const {
      const int64_t vocab = self.spec_.vocab_size;
      self.kernels_.softmax({logits, logits, vocab, factor, nullptr});
      double left = draws[static_cast<size_t>(token)] * static_cast<double>(factor);
      int64_t label = 0;
      while (label + 1 < vocab && left >= static_cast<double>(logits[label])) {
        left -= static_cast<double>(logits[label]);
        ++label;
      }
      loss = -std::log(std::max(static_cast<double>(logits[label] / factor), 1e-30));
      logits[label] -= factor;
      return true;
    }
  };
  return run(weights, hidden, static_cast<int64_t>(draws.size()), d_hidden, d_table,
             Row{*this, draws, static_cast<float>(factor), observe});
}

LossResult OutputLoss::sketched(WeightReader& weights, const float* hidden, int64_t n_tokens, uint64_t seed,
                                uint64_t first_token, float* d_hidden,
                                const std::function<void(int64_t, int64_t, const float*)>& observe) {
  struct Row {
    OutputLoss& self;
    uint64_t seed;
    uint64_t first_token;
    const std::function<void(int64_t, int64_t, const float*)>& observe;

    void begin(int64_t /*first*/, int64_t /*n*/) const {}
    void end(int64_t first, int64_t n) const {
      if (observe) observe(first, n, self.logits_.data());
    }
    bool operator()(int64_t token, int64_t /*row*/, float* logits, double& loss) const {
      const int64_t vocab = self.spec_.vocab_size;
      self.kernels_.softmax({logits, logits, vocab, 1.0F, nullptr});
      const uint64_t stream = first_token + static_cast<uint64_t>(token);
      double dot = 0.0;
      loss = 0.0;
      uint64_t signs = 0;
      const auto sign_of = [&](int64_t v) {
        if (v % 64 == 0) signs = random_bits(seed, stream, static_cast<uint64_t>(v / 64));
        return (signs >> (v % 64) & 1) != 0 ? 1.0F : -1.0F;
      };
      for (int64_t v = 0; v < vocab; ++v) {
        const float root = std::sqrt(logits[v]);
        dot += static_cast<double>(sign_of(v) * root);
        if (logits[v] > 0.0F) loss -= static_cast<double>(logits[v]) * std::log(static_cast<double>(logits[v]));
      }
      for (int64_t v = 0; v < vocab; ++v) {
        logits[v] = sign_of(v) * std::sqrt(logits[v]) - logits[v] * static_cast<float>(dot);
      }
      return true;
    }
  };
  return run(weights, hidden, n_tokens, d_hidden, nullptr, Row{*this, seed, first_token, observe});
}

LossResult OutputLoss::divergence(WeightReader& teacher, const float* teacher_hidden, const ModelSpec& teacher_spec,
                                  WeightReader& student, const float* hidden, std::span<const uint8_t> counts,
                                  double temperature, double factor, float* d_hidden, float* d_table) {
  struct Row {
    OutputLoss& self;
    WeightReader& teacher;
    const float* teacher_hidden;
    const ModelSpec& teacher_spec;
    std::span<const uint8_t> counts;
    double temperature;
    double factor;

    void begin(int64_t first, int64_t n) const {
      const int64_t width = teacher_spec.d_model;
      self.compute_logits(teacher, output_role(teacher_spec), teacher_hidden + first * width, width, n,
                          self.teacher_logits_);
    }
    void end(int64_t /*first*/, int64_t /*n*/) const {}
    bool operator()(int64_t token, int64_t row, float* logits, double& loss) const {
      const int64_t vocab = self.spec_.vocab_size;
      if (counts[static_cast<size_t>(token)] == 0) {
        std::fill_n(logits, vocab, 0.0F);
        return false;
      }
      float sums[5];
      self.kernels_.softmax_difference({self.teacher_logits_.data() + row * vocab, logits, vocab,
                                        static_cast<float>(1.0 / temperature), static_cast<float>(factor * temperature),
                                        sums});
      loss = temperature * temperature *
             (static_cast<double>(sums[4]) / static_cast<double>(sums[1]) - log_sum(sums) + log_sum(sums + 2));
      return true;
    }
  };
  return run(student, hidden, static_cast<int64_t>(counts.size()), d_hidden, d_table,
             Row{*this, teacher, teacher_hidden, teacher_spec, counts, temperature, factor});
}

}  // namespace mobilellm
