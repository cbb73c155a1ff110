// Linear algebra against plain loops in double; quantization methods against each other and against brute force.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "base/cpu_features.h"
#include "base/thread_pool.h"
#include "quant/gptq.h"
#include "quant/hessian.h"
#include "quant/input_moments.h"
#include "quant/layer_quantizer.h"
#include "quant/linear_algebra.h"
#include "tests/support/scratch_folder.h"

namespace mobilellm {
namespace {

std::vector<float> normal_values(size_t n, uint32_t seed, float scale = 1.0F) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(n);
  for (float& value : values) value = scale * normal(random);
  return values;
}

// Inputs of correlated columns with magnitudes from 0.1 to 10, as in a model.
std::vector<float> correlated_inputs(int64_t n_tokens, int64_t cols, uint32_t seed) {
  const int64_t rank = std::max<int64_t>(4, cols / 4);
  const std::vector<float> mix = normal_values(static_cast<size_t>(rank * cols), seed);
  const std::vector<float> own = normal_values(static_cast<size_t>(n_tokens * cols), seed + 1);
  const std::vector<float> hidden = normal_values(static_cast<size_t>(n_tokens * rank), seed + 2);
  const std::vector<float> log_scale = normal_values(static_cast<size_t>(cols), seed + 3);
  std::vector<float> x(static_cast<size_t>(n_tokens * cols));
  for (int64_t t = 0; t < n_tokens; ++t) {
    for (int64_t k = 0; k < cols; ++k) {
      float sum = 0.3F * own[static_cast<size_t>(t * cols + k)];
      for (int64_t j = 0; j < rank; ++j) {
        sum += hidden[static_cast<size_t>(t * rank + j)] * mix[static_cast<size_t>(j * cols + k)] /
               std::sqrt(static_cast<float>(rank));
      }
      x[static_cast<size_t>(t * cols + k)] = sum * std::exp(0.8F * log_scale[static_cast<size_t>(k)]);
    }
  }
  return x;
}

TEST(LinearAlgebra, GramAddsProductsOfColumns) {
  ThreadPool pool(3);
  for (const int64_t cols : {1, 7, 96, 97, 200}) {
    for (const int64_t n_tokens : {1, 5, 600}) {
      const int64_t stride = cols + 3;
      const std::vector<float> x = normal_values(static_cast<size_t>(n_tokens * stride), 1);
      std::vector<float> gram(static_cast<size_t>(triangle_size(cols)), 2.0F);
      add_gram(x.data(), n_tokens, stride, cols, gram.data(), pool);
      for (int64_t i = 0; i < cols; ++i) {
        for (int64_t j = 0; j <= i; ++j) {
          double expected = 2.0;
          for (int64_t t = 0; t < n_tokens; ++t) {
            expected += static_cast<double>(x[static_cast<size_t>(t * stride + i)]) *
                        static_cast<double>(x[static_cast<size_t>(t * stride + j)]);
          }
          ASSERT_NEAR(gram[static_cast<size_t>(triangle_row(i) + j)], expected, 2e-3) << cols << " " << i << " " << j;
        }
      }
    }
  }
}

TEST(LinearAlgebra, CholeskyFactorMultipliesBack) {
  ThreadPool pool(2);
  for (const int64_t n : {1, 5, 64, 65, 130, 333}) {
    const std::vector<float> x = normal_values(static_cast<size_t>(2 * n * n), 2);
    std::vector<float> triangle(static_cast<size_t>(triangle_size(n)));
    add_gram(x.data(), 2 * n, n, n, triangle.data(), pool);
    std::vector<float> a(static_cast<size_t>(n * n));
    for (int64_t i = 0; i < n; ++i) {
      std::copy_n(triangle.begin() + triangle_row(i), i + 1, a.begin() + i * n);
    }
    std::vector<float> factor = a;
    ASSERT_TRUE(factor_cholesky(factor.data(), n, pool));
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = 0; j <= i; ++j) {
        double sum = 0.0;
        for (int64_t k = 0; k <= j; ++k) {
          sum += static_cast<double>(factor[static_cast<size_t>(i * n + k)]) *
                 static_cast<double>(factor[static_cast<size_t>(j * n + k)]);
        }
        ASSERT_NEAR(sum, a[static_cast<size_t>(i * n + j)], 1e-5 * static_cast<double>(2 * n)) << n;
      }
    }
    std::vector<float> transposed = factor;
    transpose_square(transposed.data(), n, pool);
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = 0; j < n; ++j) {
        ASSERT_EQ(transposed[static_cast<size_t>(i * n + j)], factor[static_cast<size_t>(j * n + i)]);
      }
    }
  }
  std::vector<float> indefinite = {1.0F, 2.0F, 2.0F, 1.0F};
  EXPECT_FALSE(factor_cholesky(indefinite.data(), 2, pool));
  std::vector<float> nan = {std::numeric_limits<float>::quiet_NaN()};
  EXPECT_FALSE(factor_cholesky(nan.data(), 1, pool));
}

// sum over tokens |(W - Q) x|^2 / tokens, in double, straight from the definition.
double true_error(const std::vector<float>& weights, const EncodedMatrix& matrix, const std::vector<float>& x) {
  const int64_t rows = matrix.view().rows;
  const int64_t cols = matrix.view().cols;
  std::vector<float> decoded(weights.size());
  matrix.view().codec->decode_rows(matrix.view(), 0, rows, decoded.data());
  const int64_t n_tokens = static_cast<int64_t>(x.size()) / cols;
  double total = 0.0;
  for (int64_t t = 0; t < n_tokens; ++t) {
    for (int64_t r = 0; r < rows; ++r) {
      double sum = 0.0;
      for (int64_t k = 0; k < cols; ++k) {
        const auto i = static_cast<size_t>(r * cols + k);
        sum += (static_cast<double>(weights[i]) - static_cast<double>(decoded[i])) *
               static_cast<double>(x[static_cast<size_t>(t * cols + k)]);
      }
      total += sum * sum;
    }
  }
  return total / static_cast<double>(n_tokens);
}

struct Problem {
  int64_t rows;
  int64_t cols;
  std::vector<float> weights;
  std::vector<float> x;
  InputMoments moments;
};

Problem make_problem(int64_t rows, int64_t cols, ThreadPool& pool) {
  Problem problem = {rows, cols, normal_values(static_cast<size_t>(rows * cols), 3, 0.02F),
                     correlated_inputs(3 * cols, cols, 4), InputMoments(cols, true)};
  const int64_t half = static_cast<int64_t>(problem.x.size()) / cols / 2;
  problem.moments.add(problem.x.data(), half, cols, pool);
  problem.moments.add(problem.x.data() + half * cols, 3 * cols - half, cols, pool);
  return problem;
}

EncodedMatrix quantize(const Problem& problem, QuantMethod method, int bits, int group, ThreadPool& pool) {
  EncodedMatrix out({QuantMode::kAffine, bits, group}, DType::kBF16, problem.rows, problem.cols, "w");
  const LayerQuantizer quantizer(method, &problem.moments, pool);
  quantizer.quantize_rows(problem.weights.data(), 0, problem.rows, out, pool);
  return out;
}

TEST(LayerQuantizer, EachMethodLosesLessThanTheOneBefore) {
  ThreadPool pool(2);
  const Problem problem = make_problem(50, 256, pool);
  for (const int bits : {2, 3, 4, 5, 6, 8}) {
    const double rtn = true_error(problem.weights, quantize(problem, QuantMethod::kRtn, bits, 64, pool), problem.x);
    const double fit = true_error(problem.weights, quantize(problem, QuantMethod::kFit, bits, 64, pool), problem.x);
    const double gptq = true_error(problem.weights, quantize(problem, QuantMethod::kGptq, bits, 64, pool), problem.x);
    EXPECT_LT(fit, 0.8 * rtn) << bits;
    EXPECT_LT(gptq, 0.6 * fit) << bits;
  }
}

TEST(LayerQuantizer, BytesDoNotDependOnThreadsOrRowRanges) {
  ThreadPool one(1);
  ThreadPool three(3);
  const Problem problem = make_problem(131, 192, three);
  const Problem alone = make_problem(131, 192, one);
  for (const QuantMethod method : {QuantMethod::kRtn, QuantMethod::kFit, QuantMethod::kGptq}) {
    const EncodedMatrix whole = quantize(problem, method, 3, 32, three);
    const EncodedMatrix serial = quantize(alone, method, 3, 32, one);
    EncodedMatrix pieces({QuantMode::kAffine, 3, 32}, DType::kBF16, 131, 192, "w");
    const LayerQuantizer quantizer(method, &problem.moments, three);
    for (int64_t row = 0; row < 131; row += 50) {
      quantizer.quantize_rows(problem.weights.data() + row * 192, row, std::min<int64_t>(row + 50, 131), pieces, three);
    }
    for (const EncodedMatrix* other : {&serial, static_cast<const EncodedMatrix*>(&pieces)}) {
      EXPECT_TRUE(std::ranges::equal(whole.view().data, other->view().data)) << quant_method_name(method);
      EXPECT_TRUE(std::ranges::equal(whole.view().scales, other->view().scales)) << quant_method_name(method);
      EXPECT_TRUE(std::ranges::equal(whole.view().biases, other->view().biases)) << quant_method_name(method);
    }
  }
}

TEST(LayerQuantizer, RtnIsTheEncoder) {
  ThreadPool pool(2);
  const std::vector<float> weights = normal_values(5 * 128, 6);
  EncodedMatrix expected({QuantMode::kAffine, 4, 64}, DType::kF16, 5, 128, "w");
  encode_rows(expected, 0, 5, weights.data());
  EncodedMatrix got({QuantMode::kAffine, 4, 64}, DType::kF16, 5, 128, "w");
  const LayerQuantizer quantizer(QuantMethod::kRtn, nullptr, pool);
  quantizer.quantize_rows(weights.data(), 0, 5, got, pool);
  EXPECT_TRUE(std::ranges::equal(got.view().data, expected.view().data));
  std::vector<float> decoded(weights.size());
  got.view().codec->decode_rows(got.view(), 0, 5, decoded.data());
  double error = 0.0;
  for (size_t i = 0; i < weights.size(); ++i) {
    error += std::pow(static_cast<double>(weights[i]) - static_cast<double>(decoded[i]), 2);
  }
  EXPECT_NEAR(quantizer.error_of_rows(weights.data(), 0, 5, got.view(), pool), error, 1e-6 * error);
}

TEST(LayerQuantizer, ErrorsAreThoseOfTheOutputs) {
  ThreadPool pool(2);
  const Problem problem = make_problem(60, 128, pool);
  const LayerQuantizer quantizer(QuantMethod::kGptq, &problem.moments, pool);
  const EncodedMatrix matrix = quantize(problem, QuantMethod::kFit, 4, 32, pool);
  // The quantizer's Hessian is damped by 1 %.
  const double expected = true_error(problem.weights, matrix, problem.x);
  EXPECT_NEAR(quantizer.error_of_rows(problem.weights.data(), 0, 60, matrix.view(), pool), expected, 0.05 * expected);
  InputMoments squares(128, false);
  squares.add(problem.x.data(), 384, 128, pool);
  EXPECT_EQ(squares.diagonal(), problem.moments.diagonal());
  const LayerQuantizer diagonal(QuantMethod::kFit, &squares, pool);
  EXPECT_GT(diagonal.error_of_rows(problem.weights.data(), 0, 60, matrix.view(), pool), 0.0);
}

TEST(LayerQuantizer, InputsThatNeverFireAndConstantWeightsAreFine) {
  ThreadPool pool(2);
  Problem problem = make_problem(9, 64, pool);
  for (size_t i = 0; i < problem.x.size(); ++i) {
    if (i % 64 < 40) problem.x[i] = 0.0F;
  }
  problem.moments = InputMoments(64, true);
  problem.moments.add(problem.x.data(), 192, 64, pool);
  std::fill_n(problem.weights.begin(), 64, 0.0F);
  std::fill_n(problem.weights.begin() + 64, 64, -0.75F);
  for (const QuantMethod method : {QuantMethod::kFit, QuantMethod::kGptq}) {
    const EncodedMatrix matrix = quantize(problem, method, 4, 32, pool);
    std::vector<float> decoded(problem.weights.size());
    matrix.view().codec->decode_rows(matrix.view(), 0, 9, decoded.data());
    for (size_t i = 0; i < decoded.size(); ++i) ASSERT_NEAR(decoded[i], problem.weights[i], i < 128 ? 1e-6 : 0.05);
  }
  // No token at all: every input counts the same.
  problem.moments = InputMoments(64, false);
  EXPECT_EQ(problem.moments.diagonal(), std::vector<float>(64, 1.0F));
  quantize(problem, QuantMethod::kFit, 4, 32, pool);
}

TEST(LayerQuantizer, RefusesMomentsThatDoNotFit) {
  ThreadPool pool(1);
  InputMoments squares(64, false);
  expect_error(ErrorCode::kInvalidArgument, {"gptq", "moments"},
               [&] { LayerQuantizer(QuantMethod::kGptq, nullptr, pool); });
  expect_error(ErrorCode::kInvalidArgument, {"full moments"},
               [&] { LayerQuantizer(QuantMethod::kGptq, &squares, pool); });
  InputMoments full(64, true);
  expect_error(ErrorCode::kInvalidArgument, {"0 tokens"}, [&] { LayerQuantizer(QuantMethod::kGptq, &full, pool); });
  std::vector<float> x(64, 1.0F);
  x[3] = std::numeric_limits<float>::quiet_NaN();
  full.add(x.data(), 1, 64, pool);
  squares.add(x.data(), 1, 64, pool);
  for (const auto& [method, moments] : {std::pair(QuantMethod::kGptq, &full), std::pair(QuantMethod::kFit, &squares)}) {
    expect_error(ErrorCode::kCorruptData, {"not finite"}, [&, m = method, s = moments] { LayerQuantizer(m, s, pool); });
  }
  InputMoments other(32, false);
  const LayerQuantizer quantizer(QuantMethod::kFit, &other, pool);
  EncodedMatrix out({QuantMode::kAffine, 4, 32}, DType::kBF16, 1, 64, "w");
  expect_error(ErrorCode::kInvalidArgument, {"'w'", "64", "32"},
               [&] { quantizer.quantize_rows(x.data(), 0, 1, out, pool); });
  const LayerQuantizer rtn(QuantMethod::kRtn, nullptr, pool);
  expect_error(ErrorCode::kCorruptData, {"row 0", "column 3"}, [&] { rtn.quantize_rows(x.data(), 0, 1, out, pool); });
  expect_error(ErrorCode::kInvalidArgument, {"magic", "gptq"}, [] { parse_quant_method("magic"); });
  EXPECT_EQ(parse_quant_method("fit"), QuantMethod::kFit);
  EXPECT_THROW(InputMoments(0, true), Error);
}

// Six correlated columns of two bits: all 4096 choices of their codes against the walk and its improvement.
TEST(Gptq, ComesCloseToTheBestOfAllCodes) {
  ThreadPool pool(1);
  constexpr int64_t kCols = 32;
  constexpr int kTried = 6;
  double found = 0.0;
  double best_possible = 0.0;
  for (uint32_t seed = 0; seed < 20; ++seed) {
    std::vector<float> x = correlated_inputs(200, kCols, 50 + 10 * seed);
    for (size_t i = 0; i < x.size(); ++i) {
      if (i % kCols >= kTried) x[i] = 0.0F;
    }
    InputMoments moments(kCols, true);
    moments.add(x.data(), 200, kCols, pool);
    const Hessian hessian(moments, pool);
    const std::vector<float> weights = normal_values(kCols, 900 + seed);
    AffineRows rows;
    rows.n_rows = 1;
    rows.cols = kCols;
    rows.group_size = 32;
    rows.top = 3;
    rows.codes.resize(kCols);
    rows.scales = {1.0F};
    rows.biases = {-1.5F};
    GptqWorkspace workspace;
    std::vector<float> products;
    const KernelTable& kernels = kernel_table(select_isa());
    choose_codes(hessian, weights.data(), rows, workspace, kernels);
    found += hessian_error(hessian, workspace.errors.data(), 1, products, kernels);
    double best = std::numeric_limits<double>::infinity();
    for (int choice = 0; choice < 4096; ++choice) {
      std::vector<float> errors(kCols);
      for (size_t k = 0; k < kCols; ++k) {
        const float nearest = std::clamp(std::nearbyint(weights[k] + 1.5F), 0.0F, 3.0F);
        const float code = k < kTried ? static_cast<float>((choice >> (2 * k)) & 3) : nearest;
        errors[k] = weights[k] - (code - 1.5F);
      }
      best = std::min(best, hessian_error(hessian, errors.data(), 1, products, kernels));
    }
    best_possible += best;
    const double before = hessian_error(hessian, workspace.errors.data(), 1, products, kernels);
    EXPECT_GE(before, best * 0.9999);
    improve_groups(hessian, weights.data(), rows, workspace, kernels);
    EXPECT_LE(hessian_error(hessian, workspace.errors.data(), 1, products, kernels), before * 1.0001);
  }
  EXPECT_LT(found, 1.5 * best_possible);
}

}  // namespace
}  // namespace mobilellm
