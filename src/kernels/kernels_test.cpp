// Every instruction set against the scalar kernels, bit for bit, and those against plain double arithmetic.
#include "kernels/kernels.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "base/random.h"
#include "tensor/float_convert.h"
#include "tests/support/tested_isas.h"

namespace mobilellm {
namespace {

std::vector<float> random_floats(size_t n, uint64_t stream, float scale = 1.0F) {
  std::vector<float> values(n);
  for (size_t i = 0; i < n; ++i) values[i] = scale * static_cast<float>(2.0 * random_uniform(1, stream, i) - 1.0);
  return values;
}

class EveryIsa : public testing::TestWithParam<Isa> {};
INSTANTIATE_TEST_SUITE_P(Kernels, EveryIsa, testing::ValuesIn(tested_isas()),
                         [](const auto& param_info) { return std::string(isa_name(param_info.param)); });

struct RowFormat {
  const char* name;
  void (*KernelTable::*kernel)(const DotRowsArgs&) noexcept;
  int64_t block;  // values
  size_t block_bytes;
  float (*value)(const std::byte* block, int64_t i);
};

uint16_t u16_at(const std::byte* p) {
  uint16_t bits = 0;
  std::memcpy(&bits, p, 2);
  return bits;
}
int u8_at(const std::byte* p) { return std::to_integer<int>(*p); }
int nibble(const std::byte* q, int64_t i) { return i < 16 ? u8_at(q + i) & 15 : u8_at(q + i - 16) >> 4; }

const RowFormat kFormats[] = {
    {"f32", &KernelTable::dot_rows_f32, 1, 4,
     [](const std::byte* b, int64_t) {
       float v = 0;
       std::memcpy(&v, b, 4);
       return v;
     }},
    {"f16", &KernelTable::dot_rows_f16, 1, 2, [](const std::byte* b, int64_t) { return fp16_to_float(u16_at(b)); }},
    {"bf16", &KernelTable::dot_rows_bf16, 1, 2, [](const std::byte* b, int64_t) { return bf16_to_float(u16_at(b)); }},
    {"q8_0", &KernelTable::dot_rows_q8_0, 32, 34,
     [](const std::byte* b, int64_t i) {
       return fp16_to_float(u16_at(b)) * static_cast<float>(static_cast<int8_t>(u8_at(b + 2 + i)));
     }},
    {"q4_0", &KernelTable::dot_rows_q4_0, 32, 18,
     [](const std::byte* b, int64_t i) { return fp16_to_float(u16_at(b)) * static_cast<float>(nibble(b + 2, i) - 8); }},
    {"q4_1", &KernelTable::dot_rows_q4_1, 32, 20,
     [](const std::byte* b, int64_t i) {
       return fp16_to_float(u16_at(b)) * static_cast<float>(nibble(b + 4, i)) + fp16_to_float(u16_at(b + 2));
     }},
};

// Random rows whose scales are ordinary numbers.
std::vector<std::byte> random_rows(const RowFormat& format, int rows, int64_t cols) {
  const size_t row_bytes = static_cast<size_t>(cols / format.block) * format.block_bytes;
  std::vector<std::byte> data(row_bytes * static_cast<size_t>(rows));
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::byte>(random_bits(3, 5, i));
  for (size_t block = 0; block < data.size() / format.block_bytes; ++block) {
    std::byte* p = data.data() + block * format.block_bytes;
    const auto number = static_cast<float>(random_uniform(4, 6, block) - 0.5);
    if (format.block_bytes == 4) {
      std::memcpy(p, &number, 4);
    } else {
      const uint16_t half = std::string(format.name) == "bf16" ? float_to_bf16(number) : float_to_fp16(number);
      std::memcpy(p, &half, 2);
      if (std::string(format.name) == "q4_1") std::memcpy(p + 2, &half, 2);
    }
  }
  return data;
}

TEST_P(EveryIsa, DotRowsEqualsScalarBitForBitAndDoubleArithmeticClosely) {
  const KernelTable& table = kernel_table(GetParam());
  const KernelTable& scalar = kernel_table(Isa::kScalar);
  for (const RowFormat& format : kFormats) {
    for (const int64_t base_cols : {int64_t{1}, int64_t{2}, int64_t{5}, int64_t{18}}) {
      const int64_t cols = format.block == 1 ? base_cols * 13 : base_cols * format.block;
      const int rows = 21;
      const auto data = random_rows(format, rows, cols);
      const size_t row_bytes = static_cast<size_t>(cols / format.block) * format.block_bytes;
      const int n_tokens = 15;
      const auto x = random_floats(static_cast<size_t>(n_tokens * cols), 9);
      const auto bias = random_floats(rows, 10);
      std::vector<float> scratch(static_cast<size_t>(rows * cols));
      std::vector<float> expected(static_cast<size_t>(n_tokens * rows));
      DotRowsArgs args{data.data(), row_bytes,       rows, cols,        x.data(),      cols,
                       n_tokens,    expected.data(), rows, bias.data(), scratch.data()};
      (scalar.*format.kernel)(args);
      std::vector<float> got(expected.size());
      args.y = got.data();
      (table.*format.kernel)(args);
      EXPECT_EQ(std::memcmp(got.data(), expected.data(), got.size() * 4), 0) << format.name << " cols " << cols;
      // One token at a time and row ranges give the same bits.
      std::vector<float> single(expected.size());
      for (int t = 0; t < n_tokens; ++t) {
        for (int row = 0; row < rows; row += 5) {
          DotRowsArgs part = args;
          part.weights = data.data() + static_cast<size_t>(row) * row_bytes;
          part.n_rows = std::min(5, rows - row);
          part.bias = bias.data() + row;
          part.x = x.data() + t * cols;
          part.n_tokens = 1;
          part.y = single.data() + t * rows + row;
          (table.*format.kernel)(part);
        }
      }
      EXPECT_EQ(std::memcmp(single.data(), expected.data(), single.size() * 4), 0) << format.name << " cols " << cols;
      for (int t = 0; t < n_tokens; ++t) {
        for (int r = 0; r < rows; ++r) {
          double sum = bias[static_cast<size_t>(r)];
          double magnitude = 1;
          for (int64_t k = 0; k < cols; ++k) {
            const std::byte* block = data.data() + static_cast<size_t>(r) * row_bytes +
                                     static_cast<size_t>(k / format.block) * format.block_bytes;
            const double product = static_cast<double>(format.value(block, k % format.block)) *
                                   static_cast<double>(x[static_cast<size_t>(t * cols + k)]);
            sum += product;
            magnitude += std::fabs(product);
          }
          ASSERT_NEAR(expected[static_cast<size_t>(t * rows + r)], sum, 1e-6 * magnitude) << format.name;
        }
      }
    }
  }
}

TEST_P(EveryIsa, NormAndActivationsEqualScalarBitForBit) {
  const KernelTable& table = kernel_table(GetParam());
  const KernelTable& scalar = kernel_table(Isa::kScalar);
  for (const int64_t n : {1, 15, 16, 17, 24, 576}) {
    const auto size = static_cast<size_t>(n);
    const auto x = random_floats(size, 20, 9.0F);
    const auto w = random_floats(size, 21);
    std::vector<float> a(size);
    std::vector<float> b(size);
    scalar.rms_norm({x.data(), w.data(), a.data(), n, 1e-5F});
    table.rms_norm({x.data(), w.data(), b.data(), n, 1e-5F});
    EXPECT_EQ(a, b);
    double mean = 0;
    for (const float v : x) mean += static_cast<double>(v) * static_cast<double>(v) / static_cast<double>(n);
    for (size_t i = 0; i < size; ++i)
      ASSERT_NEAR(a[i], static_cast<double>(x[i] * w[i]) / std::sqrt(mean + 1e-5), 1e-5);
    scalar.silu_mul({x.data(), w.data(), a.data(), n});
    table.silu_mul({x.data(), w.data(), b.data(), n});
    EXPECT_EQ(a, b);
    for (size_t i = 0; i < size; ++i) {
      const double v = x[i];
      ASSERT_NEAR(a[i], v / (1 + std::exp(-v)) * static_cast<double>(w[i]), 3e-6);
    }
    scalar.gelu_tanh_mul({x.data(), nullptr, a.data(), n});
    table.gelu_tanh_mul({x.data(), nullptr, b.data(), n});
    EXPECT_EQ(a, b);
    for (size_t i = 0; i < size; ++i) {
      const double v = x[i];
      ASSERT_NEAR(a[i], 0.5 * v * (1 + std::tanh(0.7978845608028654 * (v + 0.044715 * v * v * v))), 3e-6);
    }
    a = x;
    b = x;
    scalar.add({w.data(), a.data(), n});
    table.add({w.data(), b.data(), n});
    EXPECT_EQ(a, b);
  }
}

TEST_P(EveryIsa, ProductTilesEqualScalarBitForBitHoweverTheyAreCut) {
  const KernelTable& table = kernel_table(GetParam());
  const KernelTable& scalar = kernel_table(Isa::kScalar);
  const int64_t depth = 37;
  const auto a = random_floats(static_cast<size_t>(depth * kTileRows), 30);
  const auto b = random_floats(static_cast<size_t>(depth * kTileCols), 31);
  for (const int rows : {1, 5, kTileRows}) {
    for (const int cols : {1, 17, kTileCols}) {
      const int stride = kTileCols + 3;
      std::vector<float> expected(static_cast<size_t>(kTileRows * stride), 7.0F);
      std::vector<float> got = expected;
      scalar.product_tile({a.data(), b.data(), depth, expected.data(), stride, rows, cols, false});
      table.product_tile({a.data(), b.data(), 20, got.data(), stride, rows, cols, false});
      table.product_tile(
          {a.data() + 20 * kTileRows, b.data() + 20 * kTileCols, depth - 20, got.data(), stride, rows, cols, true});
      EXPECT_EQ(got, expected) << rows << " x " << cols;
      for (int i = 0; i < kTileRows; ++i) {
        for (int j = 0; j < kTileCols; ++j) {
          double sum = 0;
          for (int64_t k = 0; k < depth; ++k) {
            sum += static_cast<double>(a[static_cast<size_t>(k * kTileRows + i)]) *
                   static_cast<double>(b[static_cast<size_t>(k * kTileCols + j)]);
          }
          const bool is_inside = i < rows && j < cols;
          ASSERT_NEAR(got[static_cast<size_t>(i * stride + j)], is_inside ? sum : 7.0, 1e-5);
        }
      }
    }
  }
}

TEST_P(EveryIsa, SoftmaxAndItsDifferenceEqualScalarBitForBitAndDoublesClosely) {
  const KernelTable& table = kernel_table(GetParam());
  const KernelTable& scalar = kernel_table(Isa::kScalar);
  for (const int64_t n : {1, 15, 16, 17, 300}) {
    const auto size = static_cast<size_t>(n);
    const auto teacher = random_floats(size, 40, 9.0F);
    const auto student = random_floats(size, 41, 9.0F);
    const auto expected_softmax = [&](const std::vector<float>& x, double temperature) {
      double sum = 0;
      std::vector<double> p(size);
      for (size_t i = 0; i < size; ++i) sum += p[i] = std::exp(static_cast<double>(x[i]) / temperature);
      for (double& value : p) value /= sum;
      return p;
    };
    std::vector<float> a(size);
    std::vector<float> b(size);
    scalar.softmax({teacher.data(), a.data(), n, 0.5F, nullptr});
    table.softmax({teacher.data(), b.data(), n, 0.5F, nullptr});
    EXPECT_EQ(a, b);
    const auto p1 = expected_softmax(teacher, 1.0);
    for (size_t i = 0; i < size; ++i) ASSERT_NEAR(a[i], 0.5 * p1[i], 1e-6);
    a = student;
    b = student;
    float sums[5];
    float other[5];
    scalar.softmax_difference({teacher.data(), a.data(), n, 0.5F, 3.0F, sums});
    table.softmax_difference({teacher.data(), b.data(), n, 0.5F, 3.0F, other});
    EXPECT_EQ(a, b);
    for (int i = 0; i < 5; ++i) EXPECT_EQ(sums[i], other[i]);
    const auto pt = expected_softmax(teacher, 2.0);
    const auto ps = expected_softmax(student, 2.0);
    double divergence = 0;
    for (size_t i = 0; i < size; ++i) {
      ASSERT_NEAR(a[i], 3.0 * (ps[i] - pt[i]), 3e-6);
      divergence += pt[i] * std::log(pt[i] / ps[i]);
    }
    const double got = static_cast<double>(sums[4]) / static_cast<double>(sums[1]) -
                       (static_cast<double>(sums[0]) + std::log(static_cast<double>(sums[1]))) +
                       (static_cast<double>(sums[2]) + std::log(static_cast<double>(sums[3])));
    EXPECT_NEAR(got, divergence, 1e-5);
  }
}

TEST_P(EveryIsa, GradientsOfActivationsEqualScalarBitForBitAndDifferencesClosely) {
  const KernelTable& table = kernel_table(GetParam());
  const KernelTable& scalar = kernel_table(Isa::kScalar);
  const int64_t n = 45;
  const auto size = static_cast<size_t>(n);
  const auto gate = random_floats(size, 50, 6.0F);
  const auto up = random_floats(size, 51);
  const auto d_out = random_floats(size, 52);
  const auto silu = [](double x) { return x / (1 + std::exp(-x)); };
  const auto gelu = [](double x) { return 0.5 * x * (1 + std::tanh(0.7978845608028654 * (x + 0.044715 * x * x * x))); };
  for (const bool is_silu : {true, false}) {
    const auto kernel = is_silu ? &KernelTable::silu_mul_backward : &KernelTable::gelu_tanh_mul_backward;
    std::vector<float> d_gate(size), d_up(size), other_gate(size), other_up(size), alone(size);
    (scalar.*kernel)({gate.data(), up.data(), d_out.data(), d_gate.data(), d_up.data(), n});
    (table.*kernel)({gate.data(), up.data(), d_out.data(), other_gate.data(), other_up.data(), n});
    (table.*kernel)({gate.data(), nullptr, d_out.data(), alone.data(), nullptr, n});
    EXPECT_EQ(d_gate, other_gate);
    EXPECT_EQ(d_up, other_up);
    for (size_t i = 0; i < size; ++i) {
      const double x = gate[i];
      const double value = is_silu ? silu(x) : gelu(x);
      const double slope =
          is_silu ? (silu(x + 1e-5) - silu(x - 1e-5)) / 2e-5 : (gelu(x + 1e-5) - gelu(x - 1e-5)) / 2e-5;
      ASSERT_NEAR(d_up[i], value * static_cast<double>(d_out[i]), 3e-6);
      ASSERT_NEAR(alone[i], slope * static_cast<double>(d_out[i]), 3e-6);
      ASSERT_NEAR(d_gate[i], slope * static_cast<double>(d_out[i] * up[i]), 3e-6);
    }
  }
}

TEST_P(EveryIsa, ActivationsOfExtremesAreFiniteOrNan) {
  const KernelTable& table = kernel_table(GetParam());
  const float infinity = std::numeric_limits<float>::infinity();
  const std::vector<float> x = {1e30F, -1e30F, infinity, std::nanf(""), 0.0F, -87.5F, 88.5F};
  std::vector<float> y(x.size());
  table.silu_mul({x.data(), nullptr, y.data(), static_cast<int64_t>(x.size())});
  EXPECT_EQ(y[0], 1e30F);
  EXPECT_NEAR(y[1], 0.0F, 1e-7);
  EXPECT_EQ(y[2], infinity);
  EXPECT_TRUE(std::isnan(y[3]));
  EXPECT_EQ(y[4], 0.0F);
}

TEST_P(EveryIsa, GridSumsAndErrorsEqualScalarAndDoubleArithmetic) {
  const KernelTable& table = kernel_table(GetParam());
  const KernelTable& scalar = kernel_table(Isa::kScalar);
  for (const int n : {16, 32, 64, 128}) {
    std::vector<float> x = random_floats(static_cast<size_t>(n), 41);
    std::vector<float> weights = random_floats(static_cast<size_t>(n), 42);
    for (float& weight : weights) weight = std::fabs(weight) + 0.01F;
    // Ties, a value far outside, a huge quotient, a flipped grid.
    x[0] = 0.25F;
    x[1] = 1e15F;
    const std::vector<GridLine> lines = {
        {0.1F, -0.8F, 0.05F}, {0.5F, 0.0F, 0.0F}, {-0.07F, 0.9F, 0.9F}, {1e-30F, 0.1F, 0.0F}};
    const auto n_lines = static_cast<int>(lines.size());
    std::vector<GridSums> expected(lines.size());
    std::vector<GridSums> sums(lines.size());
    std::vector<float> expected_errors(lines.size());
    std::vector<float> errors(lines.size());
    GridSumsArgs args{x.data(), weights.data(), n, 0.0F, 15.0F, lines.data(), n_lines, expected.data()};
    scalar.affine_grid_sums(args);
    args.sums = sums.data();
    table.affine_grid_sums(args);
    EXPECT_EQ(std::memcmp(sums.data(), expected.data(), sums.size() * sizeof(GridSums)), 0) << n;
    GridErrorsArgs error_args{x.data(), weights.data(), n, 0.0F, 15.0F, lines.data(), n_lines, expected_errors.data()};
    scalar.affine_grid_errors(error_args);
    error_args.errors = errors.data();
    table.affine_grid_errors(error_args);
    EXPECT_EQ(std::memcmp(errors.data(), expected_errors.data(), errors.size() * sizeof(float)), 0) << n;
    for (size_t i = 0; i < 3; ++i) {
      double q_sum = 0, qq_sum = 0, xq_sum = 0, magnitude = 0, error_sum = 0;
      for (size_t k = 0; k < x.size(); ++k) {
        const auto value = static_cast<double>(x[k]);
        const auto w = static_cast<double>(weights[k]);
        const auto scale = static_cast<double>(lines[i].scale);
        const auto bias = static_cast<double>(lines[i].bias);
        const double q = std::clamp(std::nearbyint((value - bias) / scale), 0.0, 15.0);
        q_sum += w * q;
        qq_sum += w * q * q;
        xq_sum += w * q * (value - static_cast<double>(lines[i].center));
        magnitude += std::fabs(w * q * value);
        error_sum += w * (scale * q + bias - value) * (scale * q + bias - value);
      }
      EXPECT_NEAR(static_cast<double>(sums[i].q), q_sum, 1e-5 * q_sum);
      EXPECT_NEAR(static_cast<double>(sums[i].qq), qq_sum, 1e-5 * qq_sum);
      EXPECT_NEAR(static_cast<double>(sums[i].xq), xq_sum, 1e-5 * magnitude + 1e-4);
      EXPECT_NEAR(static_cast<double>(errors[i]), error_sum, 1e-5 * error_sum);
    }
  }
}

}  // namespace
}  // namespace mobilellm
