// The predicted cost of an error against the divergence that it causes.
#include "quant/sensitivity.h"

#include <gtest/gtest.h>

#include <cmath>

#include "backprop/decoder.h"
#include "backprop/output_loss.h"
#include "base/random.h"
#include "base/thread_pool.h"
#include "model/loader.h"

namespace mobilellm {
namespace {

// The model with noise in one matrix.
class NoisyReader final : public WeightReader {
 public:
  NoisyReader(const ModelWeights& weights, MatrixId id, float size, ThreadPool& pool)
      : plain_(weights, pool), weights_(weights), id_(id), size_(size) {}
  const float* rows(TensorRole role, int layer, int64_t begin, int64_t end, std::vector<float>& buffer) override {
    plain_.rows(role, layer, begin, end, buffer);
    if (!(MatrixId{role, layer} == id_)) return buffer.data();
    const int64_t cols = matrix_of(weights_, role, layer).cols;
    for (int64_t i = 0; i < (end - begin) * cols; ++i) {
      buffer[static_cast<size_t>(i)] +=
          size_ * static_cast<float>(random_uniform(3, 3, static_cast<uint64_t>(begin * cols + i)) - 0.5);
    }
    return buffer.data();
  }
  std::span<const float> vector(TensorRole role, int layer) override { return plain_.vector(role, layer); }

 private:
  ModelWeightReader plain_;
  const ModelWeights& weights_;
  MatrixId id_;
  float size_;
};

TEST(Sensitivity, PredictsTheDivergenceOfNoise) {
  const LoadedModel model = load_model(MOBILELLM_SOURCE_DIR "/tests/golden/models/qwen3");
  ThreadPool pool(2);
  std::vector<std::vector<int32_t>> chunks(16, std::vector<int32_t>(128));
  for (size_t c = 0; c < chunks.size(); ++c) {
    for (size_t i = 0; i < chunks[c].size(); ++i) {
      chunks[c][i] = static_cast<int32_t>(random_bits(7, c, i) % static_cast<uint64_t>(model.spec.vocab_size));
    }
  }
  const auto sensitivities = tensor_sensitivities(model.spec, model.weights, chunks, 1, pool, {});
  ASSERT_EQ(sensitivities.size(), matrices_of(model.spec).size());
  ThreadPool other(1);
  const auto again = tensor_sensitivities(model.spec, model.weights, chunks, 1, other, {});
  for (size_t i = 0; i < again.size(); ++i) EXPECT_EQ(again[i].rows, sensitivities[i].rows);

  std::vector<int32_t> tokens;
  std::vector<int64_t> lengths;
  for (const auto& chunk : chunks) {
    tokens.insert(tokens.end(), chunk.begin(), chunk.end());
    lengths.push_back(static_cast<int64_t>(chunk.size()));
  }
  Decoder decoder(model.spec, false, pool);
  OutputLoss loss(model.spec, pool);
  ModelWeightReader plain(model.weights, pool);
  const size_t n_floats = tokens.size() * static_cast<size_t>(model.spec.d_model);
  std::vector<float> teacher(n_floats), student(n_floats);
  decoder.forward(plain, {tokens, lengths}, false, teacher.data());
  const std::vector<uint8_t> counts(tokens.size(), 1);
  const auto divergence = [&](MatrixId id) {
    NoisyReader noisy(model.weights, id, 0.02F, pool);
    decoder.forward(noisy, {tokens, lengths}, false, student.data());
    return loss.divergence(plain, teacher.data(), model.spec, noisy, student.data(), counts, 1.0, 1.0, nullptr, nullptr)
               .sum /
           static_cast<double>(tokens.size());
  };
  for (const TensorSensitivity& sensitivity : sensitivities) {
    if (sensitivity.layer == 0 || sensitivity.layer == 3) continue;
    // Uniform in +-0.01.
    const double predicted = 0.5 * sensitivity.total * 0.02 * 0.02 / 12.0;
    const double measured = divergence({sensitivity.role, sensitivity.layer});
    EXPECT_NEAR(std::log(predicted / measured), 0.0, 0.25)
        << static_cast<int>(sensitivity.role) << " layer " << sensitivity.layer << ": " << predicted << " " << measured;
  }
}

// The squared gradient of every matrix by its tokens is that of the matrix itself.
TEST(Sensitivity, TokensGiveTheSquareOfTheGradient) {
  class Both final : public GradientSink {
   public:
    explicit Both(ThreadPool& pool) : product_(pool) {}
    bool wants(TensorRole /*role*/, int /*layer*/) override { return true; }
    void token_gradients(TensorRole /*role*/, int /*layer*/, const float* x, int64_t cols, const float* d_y,
                         int64_t rows, int64_t n_tokens) override {
      expected_.assign(static_cast<size_t>(rows * cols), 0.0F);
      product_.run(row_major(d_y, rows).transposed(), row_major(x, cols), rows, cols, n_tokens, expected_.data(), cols,
                   false);
    }
    void matrix_gradient(TensorRole /*role*/, int /*layer*/, const float* gradient) override {
      ++n_matrices;
      for (size_t i = 0; i < expected_.size(); ++i) ASSERT_EQ(gradient[i], expected_[i]);
      double square = 0.0;
      for (const float value : expected_) square += static_cast<double>(value) * static_cast<double>(value);
      squares.push_back(square);
    }
    int n_matrices = 0;
    std::vector<double> squares;

   private:
    MatrixProduct product_;
    std::vector<float> expected_;
  };
  const LoadedModel model = load_model(MOBILELLM_SOURCE_DIR "/tests/golden/e2e/r1_chat");
  const std::vector<int32_t> tokens = model.tokenizer->encode("The sum of 4 and 3 is 7, and not 8.");
  ThreadPool pool(2);
  const std::vector<TensorSensitivity> sensitivities =
      tensor_sensitivities(model.spec, model.weights, {tokens}, 5, pool, {});
  ModelWeightReader reader(model.weights, pool);
  Decoder decoder(model.spec, false, pool);
  OutputLoss loss(model.spec, pool);
  std::vector<double> draws;
  for (size_t t = 0; t < tokens.size(); ++t) draws.push_back(random_uniform(5, 0, t));
  std::vector<float> hidden(tokens.size() * static_cast<size_t>(model.spec.d_model));
  std::vector<float> d_hidden(hidden.size());
  const auto length = static_cast<int64_t>(tokens.size());
  decoder.forward(reader, {tokens, std::span(&length, 1)}, true, hidden.data());
  loss.sampled(reader, hidden.data(), draws, 1.0, d_hidden.data(), nullptr, {});
  Both both(pool);
  decoder.backward(reader, d_hidden.data(), both);
  EXPECT_EQ(both.n_matrices, 21);
  double expected = 0.0;
  double got = 0.0;
  for (const double square : both.squares) expected += square / static_cast<double>(tokens.size());
  for (const TensorSensitivity& each : sensitivities) got += each.layer >= 0 ? each.total : 0.0;
  EXPECT_NEAR(got, expected, 1e-4 * expected);
}

}  // namespace
}  // namespace mobilellm
