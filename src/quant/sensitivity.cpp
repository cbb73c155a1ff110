// Fisher information by sampled labels.
#include "quant/sensitivity.h"

#include <algorithm>

#include "backprop/decoder.h"
#include "backprop/matrix_product.h"
#include "backprop/output_loss.h"
#include "base/error.h"
#include "base/random.h"
#include "base/thread_pool.h"

namespace mobilellm {
namespace {

class SquareSums final : public GradientSink {
 public:
  SquareSums(const ModelSpec& spec, const ModelWeights& weights, ThreadPool& pool)
      : spec_(spec), pool_(pool), product_(pool), ids_(matrices_of(spec)), totals_(ids_.size()) {
    for (const MatrixId& id : ids_) {
      const StoredMatrix& matrix = matrix_of(weights, id.role, id.layer);
      widths_.push_back(matrix.cols);
      sums_.emplace_back(static_cast<size_t>(matrix.rows));
    }
  }

  bool wants(TensorRole /*role*/, int /*layer*/) override { return false; }
  void matrix_gradient(TensorRole /*role*/, int /*layer*/, const float* /*gradient*/) override {}
  // |sum of d_y x^T|^2 is the sum over pairs of tokens of (d_y . d_y') (x . x'): few tokens make that the shorter way.
  void token_gradients(TensorRole role, int layer, const float* x, int64_t cols, const float* d_y, int64_t rows,
                       int64_t n_tokens) override {
    const auto n = static_cast<size_t>(n_tokens * n_tokens);
    inputs_.resize(n);
    outputs_.resize(n);
    product_.run(row_major(x, cols), row_major(x, cols).transposed(), n_tokens, n_tokens, cols, inputs_.data(),
                 n_tokens, false);
    product_.run(row_major(d_y, rows), row_major(d_y, rows).transposed(), n_tokens, n_tokens, rows, outputs_.data(),
                 n_tokens, false);
    double sum = 0.0;
    for (size_t i = 0; i < n; ++i) sum += static_cast<double>(inputs_[i]) * static_cast<double>(outputs_[i]);
    totals_[position(role, layer)] += std::max(sum, 0.0);
  }
  void output_gradient(TensorRole role, int layer, const float* d_y, int64_t n_tokens, int64_t rows) override {
    add(d_y, n_tokens, rows, sums_[position(role, layer)]);
  }
  void embedding_gradient(std::span<const int32_t> tokens, const float* d_rows) override {
    // A tied table collects both its uses; one of its own begins here.
    if (!spec_.is_output_tied) table_.assign(table_.size(), 0.0F);
    for (size_t i = 0; i < tokens.size(); ++i) {
      float* row = table_.data() + tokens[i] * int64_t{spec_.d_model};
      for (int64_t d = 0; d < spec_.d_model; ++d) row[d] += d_rows[static_cast<int64_t>(i) * spec_.d_model + d];
    }
    add_square(position(TensorRole::kEmbedTokens, -1), table_.data(), spec_.vocab_size);
  }

  /// Zeros, for the gradient of the output table.
  float* start_table() {
    table_.assign(static_cast<size_t>(spec_.vocab_size) * static_cast<size_t>(spec_.d_model), 0.0F);
    return table_.data();
  }
  void end_table() {
    if (!spec_.is_output_tied) add_square(position(TensorRole::kLmHead, -1), table_.data(), spec_.vocab_size);
  }

  std::vector<TensorSensitivity> finish(int64_t n_tokens) const {
    std::vector<TensorSensitivity> result;
    for (size_t i = 0; i < ids_.size(); ++i) {
      result.push_back({ids_[i].role, ids_[i].layer, totals_[i] / static_cast<double>(n_tokens), {}});
      for (const double sum : sums_[i]) {
        result.back().rows.push_back(static_cast<float>(sum / static_cast<double>(n_tokens)));
      }
    }
    return result;
  }

 private:
  size_t position(TensorRole role, int layer) const {
    return static_cast<size_t>(std::find(ids_.begin(), ids_.end(), MatrixId{role, layer}) - ids_.begin());
  }

  // One sum per row, added in their order: the same for any number of threads.
  void add_square(size_t at, const float* gradient, int64_t n_rows) {
    const int64_t cols = widths_[at];
    std::vector<double> squares(static_cast<size_t>(n_rows));
    pool_.run(n_rows, [&](int64_t row, int /*worker*/) {
      float lanes[16] = {};
      for (int64_t i = 0; i < cols; ++i) {
        const float value = gradient[row * cols + i];
        lanes[i % 16] += value * value;
      }
      for (const float lane : lanes) squares[static_cast<size_t>(row)] += static_cast<double>(lane);
    });
    for (const double square : squares) totals_[at] += square;
  }

  void add(const float* values, int64_t n_tokens, int64_t width, std::vector<double>& sums) {
    constexpr int64_t kColumns = 256;
    pool_.run((width + kColumns - 1) / kColumns, [&](int64_t task, int /*worker*/) {
      const int64_t begin = task * kColumns;
      const int64_t end = std::min(width, begin + kColumns);
      for (int64_t t = 0; t < n_tokens; ++t) {
        for (int64_t i = begin; i < end; ++i) {
          const float value = values[t * width + i];
          sums[static_cast<size_t>(i)] += static_cast<double>(value * value);
        }
      }
    });
  }

  const ModelSpec& spec_;
  ThreadPool& pool_;
  MatrixProduct product_;
  std::vector<MatrixId> ids_;
  std::vector<int64_t> widths_;  // Columns.
  std::vector<std::vector<double>> sums_;
  std::vector<double> totals_;
  std::vector<float> table_;
  std::vector<float> inputs_, outputs_;  // Products of tokens, [n_tokens, n_tokens].
};

}  // namespace

std::vector<TensorSensitivity> tensor_sensitivities(const ModelSpec& spec, const ModelWeights& weights,
                                                    const std::vector<std::vector<int32_t>>& chunks, uint64_t seed,
                                                    ThreadPool& pool, const std::function<void(double)>& on_progress) {
  ModelWeightReader reader(weights, pool);
  Decoder decoder(spec, false, pool);
  OutputLoss loss(spec, pool);
  SquareSums sums(spec, weights, pool);
  int64_t n_tokens = 0;
  std::vector<float> hidden, d_hidden;
  for (size_t i = 0; i < chunks.size(); ++i) {
    if (on_progress) on_progress(static_cast<double>(i) / static_cast<double>(chunks.size()));
    const std::vector<int32_t>& tokens = chunks[i];
    if (tokens.empty()) continue;
    const auto length = static_cast<int64_t>(tokens.size());
    std::vector<double> draws(tokens.size());
    for (size_t t = 0; t < draws.size(); ++t) {
      draws[t] = random_uniform(seed, 0, static_cast<uint64_t>(n_tokens) + t);
    }
    hidden.resize(tokens.size() * static_cast<size_t>(spec.d_model));
    d_hidden.resize(hidden.size());
    decoder.forward(reader, {tokens, std::span(&length, 1)}, true, hidden.data());
    loss.sampled(reader, hidden.data(), draws, 1.0, d_hidden.data(), sums.start_table(),
                 [&](int64_t /*first*/, int64_t n, const float* d_logits) {
                   sums.output_gradient(output_role(spec), -1, d_logits, n, spec.vocab_size);
                 });
    sums.end_table();
    decoder.backward(reader, d_hidden.data(), sums);
    n_tokens += length;
  }
  if (n_tokens == 0) fail(ErrorCode::kInvalidArgument, "[quant] sensitivities: got no tokens");
  return sums.finish(n_tokens);
}

}  // namespace mobilellm
