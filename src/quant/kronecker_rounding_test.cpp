// Rounding of whole matrices against GPTQ and plain loops; moments of output gradients.
#include "quant/kronecker_rounding.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "base/cpu_features.h"
#include "base/random.h"
#include "base/thread_pool.h"
#include "model/loader.h"
#include "quant/input_moments.h"
#include "quant/output_moments.h"
#include "quant/sensitivity.h"

namespace mobilellm {
namespace {

std::vector<float> normal_values(int64_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<size_t>(n));
  for (float& value : values) value = normal(random);
  return values;
}

// Samples of `size` values that share half their variance, of different magnitudes.
InputMoments correlated_moments(int64_t size, uint32_t seed, ThreadPool& pool) {
  const int64_t n = 3 * size;
  const int64_t rank = size / 8;
  std::vector<float> x = normal_values(n * size, seed);
  const std::vector<float> mix = normal_values(rank * size, seed + 1);
  const std::vector<float> hidden = normal_values(n * rank, seed + 2);
  const std::vector<float> magnitudes = normal_values(size, seed + 3);
  for (int64_t t = 0; t < n; ++t) {
    for (int64_t k = 0; k < size; ++k) {
      float& value = x[static_cast<size_t>(t * size + k)];
      for (int64_t j = 0; j < rank; ++j) {
        value += hidden[static_cast<size_t>(t * rank + j)] * mix[static_cast<size_t>(j * size + k)] /
                 std::sqrt(static_cast<float>(rank));
      }
      value *= std::exp(0.7F * magnitudes[static_cast<size_t>(k)]);
    }
  }
  InputMoments moments(size, true);
  moments.add(x.data(), n, size, pool);
  return moments;
}

InputMoments identity_moments(int64_t size, ThreadPool& pool) {
  std::vector<float> x(static_cast<size_t>(size * size));
  for (int64_t i = 0; i < size; ++i) x[static_cast<size_t>(i * size + i)] = 1.0F;
  InputMoments moments(size, true);
  moments.add(x.data(), size, size, pool);
  return moments;
}

// Grids that span the values.
AffineRows rows_for(const std::vector<float>& weights, int64_t n_rows, int64_t cols, int bits, int group_size = 32) {
  AffineRows rows;
  rows.n_rows = static_cast<int>(n_rows);
  rows.cols = cols;
  rows.group_size = group_size;
  rows.top = (1 << bits) - 1;
  rows.codes.resize(weights.size());
  for (size_t i = 0; i < weights.size(); i += static_cast<size_t>(group_size)) {
    const auto at = weights.begin() + static_cast<std::ptrdiff_t>(i);
    const auto [low, high] = std::minmax_element(at, at + group_size);
    rows.scales.push_back((*high - *low) / static_cast<float>(rows.top));
    rows.biases.push_back(*low);
  }
  return rows;
}

AffineRows round_by_rows(const Hessian& inputs, const std::vector<float>& weights, AffineRows rows,
                         std::vector<float>& errors) {
  const KernelTable& kernels = kernel_table(select_isa());
  GptqWorkspace workspace;
  choose_codes(inputs, weights.data(), rows, workspace, kernels);
  for (int sweep = 0; sweep < 2; ++sweep) improve_groups(inputs, weights.data(), rows, workspace, kernels);
  errors.assign(workspace.errors.begin(), workspace.errors.begin() + static_cast<std::ptrdiff_t>(weights.size()));
  return rows;
}

TEST(KroneckerRounding, WithTheIdentityItIsGptq) {
  ThreadPool pool(2);
  struct Shape {
    int64_t n_rows, cols;
    int group_size;
  };
  for (const auto& [n_rows, cols, group_size] :
       {Shape{7, 160, 32}, Shape{64, 160, 32}, Shape{150, 160, 32}, Shape{70, 192, 64}, Shape{70, 256, 128}}) {
    const std::vector<float> weights = normal_values(n_rows * cols, 5);
    const Hessian inputs(correlated_moments(cols, 1, pool), pool);
    const Hessian outputs(identity_moments(n_rows, pool), pool);
    AffineRows rows = rows_for(weights, n_rows, cols, 3, group_size);
    std::vector<float> expected_errors, errors;
    const AffineRows expected = round_by_rows(inputs, weights, rows, expected_errors);
    round_kronecker(outputs, inputs, weights.data(), 2, rows, errors, kernel_table(select_isa()), pool);
    EXPECT_EQ(rows.codes, expected.codes);
    EXPECT_EQ(rows.scales, expected.scales);
    EXPECT_EQ(rows.biases, expected.biases);
    EXPECT_EQ(errors, expected_errors);
  }
}

TEST(KroneckerRounding, LosesLessThanRowsAloneAndEverySweepHelps) {
  ThreadPool pool(2);
  const KernelTable& kernels = kernel_table(select_isa());
  const int64_t n_rows = 150;
  const int64_t cols = 160;
  for (const int bits : {2, 3, 4, 6}) {
    for (const uint32_t seed : {10U, 20U}) {
      const std::vector<float> weights = normal_values(n_rows * cols, seed);
      const Hessian inputs(correlated_moments(cols, seed + 1, pool), pool);
      const Hessian outputs(correlated_moments(n_rows, seed + 5, pool), pool);
      const AffineRows start = rows_for(weights, n_rows, cols, bits);
      std::vector<float> errors;
      round_by_rows(inputs, weights, start, errors);
      const double alone = kronecker_error(outputs, inputs, errors.data(), kernels, pool);
      double last = 0.85 * alone;
      for (int sweeps = 0; sweeps < 4; ++sweeps) {
        AffineRows rows = start;
        round_kronecker(outputs, inputs, weights.data(), sweeps, rows, errors, kernels, pool);
        const double together = kronecker_error(outputs, inputs, errors.data(), kernels, pool);
        EXPECT_LT(together, last) << bits << " bits, " << sweeps << " sweeps";
        last = 1.0001 * together;
      }
    }
  }
}

TEST(KroneckerRounding, WritesTheErrorsOfItsCodesForAnyNumberOfThreads) {
  ThreadPool one(1), three(3);
  const int64_t n_rows = 70;
  const int64_t cols = 96;
  const std::vector<float> weights = normal_values(n_rows * cols, 9);
  const Hessian inputs(correlated_moments(cols, 2, one), one);
  const Hessian outputs(correlated_moments(n_rows, 6, one), one);
  AffineRows rows = rows_for(weights, n_rows, cols, 3);
  AffineRows other = rows;
  std::vector<float> errors, other_errors;
  const KernelTable& kernels = kernel_table(select_isa());
  round_kronecker(outputs, inputs, weights.data(), 2, rows, errors, kernels, one);
  round_kronecker(outputs, inputs, weights.data(), 2, other, other_errors, kernels, three);
  EXPECT_EQ(rows.codes, other.codes);
  EXPECT_EQ(rows.scales, other.scales);
  EXPECT_EQ(errors, other_errors);
  for (size_t i = 0; i < weights.size(); ++i) {
    EXPECT_EQ(errors[i], weights[i] - (rows.scales[i / 32] * static_cast<float>(rows.codes[i]) + rows.biases[i / 32]));
  }
  double expected = 0.0;
  for (int64_t a = 0; a < n_rows; ++a) {
    for (int64_t b = 0; b < n_rows; ++b) {
      double product = 0.0;
      for (int64_t i = 0; i < cols; ++i) {
        for (int64_t j = 0; j < cols; ++j) {
          product += static_cast<double>(errors[static_cast<size_t>(a * cols + i)]) *
                     static_cast<double>(inputs.matrix()[i * cols + j]) *
                     static_cast<double>(errors[static_cast<size_t>(b * cols + j)]);
        }
      }
      expected += static_cast<double>(outputs.matrix()[a * n_rows + b]) * product;
    }
  }
  EXPECT_NEAR(kronecker_error(outputs, inputs, errors.data(), kernels, three) / expected, 1.0, 1e-4);
}

TEST(OutputMoments, HaveTheLengthsOfTheGradients) {
  const LoadedModel model = load_model(MOBILELLM_SOURCE_DIR "/tests/golden/models/qwen3");
  ThreadPool pool(2);
  std::vector<std::vector<int32_t>> chunks(16, std::vector<int32_t>(64));
  for (size_t c = 0; c < chunks.size(); ++c) {
    for (size_t i = 0; i < chunks[c].size(); ++i) {
      chunks[c][i] = static_cast<int32_t>(random_bits(7, c, i) % static_cast<uint64_t>(model.spec.vocab_size));
    }
  }
  EXPECT_EQ(output_moment_chunks(model.spec, chunks), chunks);
  const OutputMoments moments(model.spec, model.weights, chunks, 1, pool, {});
  ThreadPool one(1);
  const OutputMoments other(model.spec, model.weights, chunks, 1, one, {});
  EXPECT_TRUE(std::ranges::equal(moments.table().sums(), other.table().sums()));
  EXPECT_EQ(moments.table().n_tokens(), (model.spec.is_output_tied ? 2 : 1) * 16 * 64);
  for (const TensorSensitivity& sensitivity : tensor_sensitivities(model.spec, model.weights, chunks, 1, pool, {})) {
    const std::span<const InputMoments> blocks = moments.of(sensitivity.role, sensitivity.layer);
    if (sensitivity.layer < 0) {
      EXPECT_TRUE(blocks.empty());
      continue;
    }
    ASSERT_EQ(blocks.size(), 1U);
    const std::vector<float> diagonal = blocks[0].diagonal();
    ASSERT_EQ(diagonal.size(), sensitivity.rows.size());
    // The trace is the mean of |g|, the sensitivities' sum that of |g|^2, with other labels.
    const double mean = std::accumulate(diagonal.begin(), diagonal.end(), 0.0);
    const double mean_square = std::accumulate(sensitivity.rows.begin(), sensitivity.rows.end(), 0.0);
    EXPECT_LT(mean * mean, 1.2 * mean_square);
    EXPECT_GT(mean * mean, 0.4 * mean_square) << static_cast<int>(sensitivity.role) << " layer " << sensitivity.layer;
    EXPECT_TRUE(std::ranges::equal(blocks[0].sums(), other.of(sensitivity.role, sensitivity.layer)[0].sums()));
  }
}

}  // namespace
}  // namespace mobilellm
