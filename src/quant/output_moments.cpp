// Collecting gradients of outputs during backward passes.
#include "quant/output_moments.h"

#include <algorithm>
#include <cmath>

#include "backprop/decoder.h"
#include "backprop/output_loss.h"
#include "base/error.h"
#include "base/thread_pool.h"

namespace mobilellm {
namespace {

// Rows of one block at most, and of each when there are several: their moments take 2 * rows^2 bytes.
constexpr int64_t kMaxRows = 1536;
constexpr int64_t kBlockRows = 1024;
// Few tokens say little about products of gradients.
constexpr int64_t kMaxTokens = 65536;
constexpr int64_t kMinTokens = 4096;
// Operations of the passes, which take 6 per weight and token: about two minutes on two cores with AVX-512.
constexpr double kOperations = 4e13;
// Draws of labels that no other sampling with the same seed takes.
constexpr uint64_t kStream = 0x6f7574;

using MomentMap = std::map<std::pair<TensorRole, int>, std::vector<InputMoments>>;

float length_of(const float* values, int64_t n) {
  double squares = 0.0;
  for (int64_t i = 0; i < n; ++i) squares += static_cast<double>(values[i]) * static_cast<double>(values[i]);
  return static_cast<float>(std::sqrt(squares));
}

class MomentSums final : public GradientSink {
 public:
  /// `embedding` takes gradients of embedded tokens; null: they are left out.
  MomentSums(MomentMap& moments, InputMoments* embedding, ThreadPool& pool)
      : moments_(moments), embedding_(embedding), pool_(pool) {}

  bool wants(TensorRole /*role*/, int /*layer*/) override { return false; }
  void matrix_gradient(TensorRole /*role*/, int /*layer*/, const float* /*gradient*/) override {}
  void output_gradient(TensorRole role, int layer, const float* d_y, int64_t n_tokens, int64_t rows) override {
    std::vector<InputMoments>& blocks = moments_.try_emplace({role, layer}).first->second;
    if (blocks.empty()) {
      const int64_t n_blocks = rows <= kMaxRows ? 1 : (rows + kBlockRows - 1) / kBlockRows;
      for (int64_t i = 0; i < n_blocks; ++i) {
        blocks.emplace_back((i + 1) * rows / n_blocks - i * rows / n_blocks, true);
      }
    }
    scaled_.resize(static_cast<size_t>(n_tokens * rows));
    pool_.run(n_tokens, [&](int64_t token, int /*worker*/) {
      const float* in = d_y + token * rows;
      float* out = scaled_.data() + token * rows;
      const float length = length_of(in, rows);
      const float scale = length > 0.0F ? 1.0F / std::sqrt(length) : 0.0F;
      for (int64_t i = 0; i < rows; ++i) out[i] = scale * in[i];
    });
    const float* x = scaled_.data();
    for (InputMoments& block : blocks) {
      block.add(x, n_tokens, rows, pool_);
      x += block.cols();
    }
  }
  void embedding_gradient(std::span<const int32_t> tokens, const float* d_rows) override {
    if (embedding_ != nullptr) {
      embedding_->add(d_rows, static_cast<int64_t>(tokens.size()), embedding_->cols(), pool_);
    }
  }

 private:
  MomentMap& moments_;
  InputMoments* embedding_;
  ThreadPool& pool_;
  std::vector<float> scaled_;  // [n_tokens, rows]
};

}  // namespace

OutputMoments::OutputMoments(const ModelSpec& spec, const ModelWeights& weights,
                             const std::vector<std::vector<int32_t>>& chunks, uint64_t seed, ThreadPool& pool,
                             const std::function<void(double)>& on_progress)
    : table_(spec.d_model, true) {
  ModelWeightReader reader(weights, pool);
  Decoder decoder(spec, false, pool);
  OutputLoss loss(spec, pool);
  MomentSums sums(moments_, spec.is_output_tied ? &table_ : nullptr, pool);
  uint64_t n_tokens = 0;
  std::vector<float> hidden, d_hidden, scaled;
  for (size_t i = 0; i < chunks.size(); ++i) {
    if (on_progress) on_progress(static_cast<double>(i) / static_cast<double>(chunks.size()));
    const std::vector<int32_t>& tokens = chunks[i];
    if (tokens.empty()) continue;
    hidden.resize(tokens.size() * static_cast<size_t>(spec.d_model));
    d_hidden.resize(hidden.size());
    const auto length = static_cast<int64_t>(tokens.size());
    decoder.forward(reader, {tokens, std::span(&length, 1)}, true, hidden.data());
    const auto add_table = [&](int64_t first, int64_t n, const float* d_logits) {
      const float* read = hidden.data() + first * spec.d_model;
      scaled.resize(static_cast<size_t>(n * spec.d_model));
      pool.run(n, [&](int64_t t, int /*worker*/) {
        const float weight = length_of(d_logits + t * spec.vocab_size, spec.vocab_size);
        for (int64_t k = 0; k < spec.d_model; ++k) {
          scaled[static_cast<size_t>(t * spec.d_model + k)] = weight * read[t * spec.d_model + k];
        }
      });
      table_.add(scaled.data(), n, spec.d_model, pool);
    };
    loss.sketched(reader, hidden.data(), length, seed ^ kStream, n_tokens, d_hidden.data(), add_table);
    n_tokens += tokens.size();
    decoder.backward(reader, d_hidden.data(), sums);
  }
  if (n_tokens == 0) fail(ErrorCode::kInvalidArgument, "[quant] gradients of outputs: got no tokens");
}

std::span<const InputMoments> OutputMoments::of(TensorRole role, int layer) const {
  const auto found = moments_.find({role, layer});
  return found == moments_.end() ? std::span<const InputMoments>() : std::span<const InputMoments>(found->second);
}

std::vector<std::vector<int32_t>> output_moment_chunks(const ModelSpec& spec,
                                                       const std::vector<std::vector<int32_t>>& chunks) {
  const double affordable = kOperations / (6.0 * static_cast<double>(parameter_count(spec)));
  const double wanted = std::clamp(affordable, static_cast<double>(kMinTokens), static_cast<double>(kMaxTokens));
  double available = 0.0;
  for (const std::vector<int32_t>& chunk : chunks) available += static_cast<double>(chunk.size());
  const double share = available > wanted ? wanted / available : 1.0;
  const auto n = static_cast<size_t>(std::max(1.0, share * static_cast<double>(chunks.size())));
  std::vector<std::vector<int32_t>> chosen;
  for (size_t i = 0; i < n && !chunks.empty(); ++i) chosen.push_back(chunks[i * chunks.size() / n]);
  return chosen;
}

}  // namespace mobilellm
