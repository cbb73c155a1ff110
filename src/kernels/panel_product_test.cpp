// Panel products on every instruction set: the same bits as the scalar kernels for any batch, and the sums of double
// arithmetic closely.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "base/huge_memory.h"
#include "base/random.h"
#include "kernels/kernels.h"
#include "tensor/float_convert.h"
#include "tests/support/tested_isas.h"

namespace mobilellm {
namespace {

class PanelKernels : public testing::TestWithParam<Isa> {};
INSTANTIATE_TEST_SUITE_P(Kernels, PanelKernels, testing::ValuesIn(tested_isas()),
                         [](const auto& param_info) { return std::string(isa_name(param_info.param)); });

struct Form {
  const char* name;
  int bits;
  int group;
  bool has_bias;
  CodeRange range;
  ScaleType scale_type;
  float offset;
};

constexpr CodeRange kSmall = CodeRange::kWithin16;
constexpr CodeRange kMedium = CodeRange::kWithin32;
constexpr CodeRange kWide = CodeRange::kSignedByte;
constexpr Form kForms[] = {
    {"2 bits with biases", 2, 64, true, kSmall, ScaleType::kF16, 0},
    {"3 bits with biases", 3, 32, true, kSmall, ScaleType::kBF16, 0},
    {"3 bits, groups of 16, factors", 3, 16, false, kSmall, ScaleType::kI8, 0},
    {"4 bits, centered", 4, 32, false, kSmall, ScaleType::kF16, 0},
    {"4 bits with biases", 4, 64, true, kSmall, ScaleType::kBF16, 0},
    {"4 bits with biases and factors", 4, 32, true, kSmall, ScaleType::kI8, 0},
    {"4 bits from a wide table", 4, 32, false, kWide, ScaleType::kF16, 0},
    {"4 bits from a wide table, factors", 4, 32, false, kWide, ScaleType::kI8, 0},
    {"4 bits, groups of 16", 4, 16, false, kSmall, ScaleType::kF16, 0},
    {"4 bits from a wide table, groups of 16", 4, 16, false, kWide, ScaleType::kF16, 0},
    {"4 bits with f32 scales", 4, 128, true, kSmall, ScaleType::kF32, 0},
    {"5 bits", 5, 32, false, kSmall, ScaleType::kF16, 0},
    {"5 bits with biases and factors", 5, 32, true, kSmall, ScaleType::kI8, 16},
    {"6 bits with biases", 6, 128, true, kMedium, ScaleType::kBF16, 32},
    {"6 bits, groups of 16, factors", 6, 16, false, kMedium, ScaleType::kI8, 0},
    {"8 bits", 8, 32, false, kWide, ScaleType::kF16, 0},
    {"8 bits with biases and an offset", 8, 64, true, kWide, ScaleType::kBF16, 128},
};

struct Weights {
  PanelLayout layout;
  HugeMemory panels;
  std::vector<double> values;  // [rows][cols]
};

// A random number of the form that `type` stores, written as number `index` at `at`.
float write_number(ScaleType type, uint64_t stream, int64_t i, std::byte* at, size_t index) {
  const double random = random_uniform(5, stream, static_cast<uint64_t>(i)) - 0.5;
  const auto value = static_cast<float>(random) / 64.0F;
  switch (type) {
    case ScaleType::kF32:
      std::memcpy(at + index * 4, &value, 4);
      return value;
    case ScaleType::kI8: {
      const auto whole = static_cast<int8_t>(std::lround(random * 255));
      at[index] = static_cast<std::byte>(whole);
      return static_cast<float>(whole);
    }
    case ScaleType::kF16:
    case ScaleType::kBF16:
      break;
  }
  const uint16_t bits = type == ScaleType::kF16 ? float_to_fp16(value) : float_to_bf16(value);
  std::memcpy(at + index * 2, &bits, 2);
  return type == ScaleType::kF16 ? fp16_to_float(bits) : bf16_to_float(bits);
}

// Writes a code of column i of a block; returns its integer.
int write_code(const PanelLayout& l, uint32_t code, std::byte* block, size_t lane, size_t i) {
  const auto write_plane = [&](size_t words, size_t bits, uint32_t value) {
    const size_t quads = 8 / bits;
    std::byte& byte = block[((words + i / (4 * quads)) * kPanelRows + lane) * 4 + i % 4];
    byte |= static_cast<std::byte>((value & ((1U << bits) - 1)) << (i / 4 % quads * bits));
  };
  if (l.bits == 8) {
    write_plane(0, 8, code);
    return static_cast<int8_t>(code);
  }
  code &= (1U << static_cast<unsigned>(l.bits)) - 1;
  const bool has_nibbles = l.bits >= 4;
  write_plane(0, has_nibbles ? 4 : 2, code);
  if (l.bits == 3) write_plane(2, 1, code >> 2);
  if (l.bits == 5) write_plane(4, 1, code >> 4);
  if (l.bits == 6) write_plane(4, 2, code >> 4);
  return l.bits <= 4 ? l.table[code] : static_cast<int>(code) - l.zero;
}

// Random codes, scales and biases, written as panels.h describes.
Weights make_weights(const Form& form, int64_t rows, int64_t cols) {
  Weights w;
  PanelLayout& l = w.layout;
  l.rows = rows;
  l.cols = cols;
  l.bits = form.bits;
  l.group = form.group;
  l.scale_type = form.scale_type;
  l.has_bias = form.has_bias;
  l.code_range = form.range;
  l.offset = form.offset;
  l.zero = form.bits == 5 ? 16 : form.bits == 6 ? 32 : 0;
  for (int i = 0; i < 16; ++i) {
    l.table[i] = static_cast<int8_t>(form.range == CodeRange::kWithin16 ? 2 * i - 16 : 16 * i - 128 + i);
  }
  l.set_sizes();
  w.panels = HugeMemory(static_cast<size_t>(l.n_panels()) * l.panel_bytes, "test panels");
  w.values.resize(static_cast<size_t>(rows * cols));
  for (int64_t r = 0; r < rows; ++r) {
    std::byte* panel = w.panels.data() + static_cast<size_t>(r / kPanelRows) * l.panel_bytes;
    const auto lane = static_cast<size_t>(r % kPanelRows);
    const int64_t unit_cols = int64_t{l.unit_blocks()} * kBlockCols;
    for (int64_t g = 0; g < cols / l.group; ++g) {
      const int64_t first = g * l.group;
      std::byte* unit = panel + static_cast<size_t>(first / unit_cols) * l.unit_bytes;
      const size_t skip = static_cast<size_t>(first % unit_cols / l.group) * l.scales_bytes;
      double d = double{write_number(form.scale_type, 1, r * 1000 + g, unit + l.factors_bytes + skip, lane)};
      double m = 0;
      if (l.has_bias) m = double{write_number(form.scale_type, 2, r * 1000 + g, unit + l.biases_offset + skip, lane)};
      if (l.scale_type == ScaleType::kI8) {
        const int64_t u = r * 1000 + first / unit_cols;
        d *= double{write_number(ScaleType::kF16, 3, u, unit, lane)};
        if (l.has_bias) m *= double{write_number(ScaleType::kF16, 4, u, unit, kPanelRows + lane)};
      }
      for (int64_t k = first; k < first + l.group; ++k) {
        const auto random = static_cast<uint32_t>(random_bits(7, static_cast<uint64_t>(r), static_cast<uint64_t>(k)));
        const auto i = static_cast<size_t>(k % unit_cols);
        std::byte* block = unit + l.header_bytes + i / kBlockCols * l.block_bytes;
        const int code = write_code(l, random & 255U, block, lane, i % kBlockCols);
        w.values[static_cast<size_t>(r * cols + k)] = d * (code + double{l.offset}) + m;
      }
    }
  }
  return w;
}

struct Activations {
  std::vector<uint8_t> codes;
  std::vector<StripNumbers> numbers;
  int64_t n_strips;

  Activations(const KernelTable& table, const std::vector<float>& x, int n_tokens, int64_t cols)
      : n_strips((cols + kStripCols - 1) / kStripCols) {
    const auto n = static_cast<size_t>(n_tokens) * static_cast<size_t>(n_strips);
    codes.resize(n * kStripCols);
    numbers.resize(n);
    table.quantize_rows({x.data(), cols, n_tokens, cols, rows(0)});
  }
  QuantizedRows rows(int token) {
    const int64_t at = token * n_strips;
    return {codes.data() + at * kStripCols, numbers.data() + at, n_strips};
  }
  double value(int token, int64_t k) const {
    const StripNumbers& of_strip = numbers[static_cast<size_t>(token * n_strips + k / kStripCols)];
    return double{of_strip.scale} * codes[static_cast<size_t>(token * n_strips * kStripCols + k)] +
           double{of_strip.offset};
  }
};

std::vector<float> make_rows(int n_tokens, int64_t cols) {
  std::vector<float> x(static_cast<size_t>(n_tokens * cols));
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(4.0 * random_uniform(2, 3, i) - 1.5);
  return x;
}

TEST_P(PanelKernels, QuantizedRowsAreCloseAndTheSameAsScalar) {
  for (const int64_t cols : {8, 16, 24, 32, 40, 100, 576}) {
    constexpr int kTokens = 3;
    const std::vector<float> x = make_rows(kTokens, cols);
    Activations scalar(kernel_table(Isa::kScalar), x, kTokens, cols);
    Activations got(kernel_table(GetParam()), x, kTokens, cols);
    EXPECT_EQ(got.codes, scalar.codes) << cols;
    EXPECT_EQ(std::memcmp(got.numbers.data(), scalar.numbers.data(), got.numbers.size() * sizeof(StripNumbers)), 0)
        << cols;
    for (int t = 0; t < kTokens; ++t) {
      for (int64_t k = 0; k < cols; ++k) {
        ASSERT_NEAR(got.value(t, k), double{x[static_cast<size_t>(t * cols + k)]}, 4.0 / 255.0 * 0.51 + 0.008) << k;
      }
      for (int64_t s = 0; s < got.n_strips; ++s) {
        const StripNumbers& of_strip = got.numbers[static_cast<size_t>(t * got.n_strips + s)];
        double sums[2] = {};
        for (int64_t k = s * kStripCols; k < std::min(cols, (s + 1) * kStripCols); ++k) {
          sums[k / kBlockCols % 2] += got.value(t, k);
        }
        ASSERT_NEAR(double{of_strip.block_sums[0]}, sums[0], 1e-4);
        ASSERT_NEAR(double{of_strip.block_sums[1]}, sums[1], 1e-4);
        ASSERT_NEAR(double{of_strip.sum}, sums[0] + sums[1], 1e-4);
      }
    }
  }
}

TEST_P(PanelKernels, StripsThatAreNotFiniteBecomeNaN) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity()}) {
    for (const size_t place : {0U, 13U, 16U, 31U, 32U, 63U}) {
      std::vector<float> x = make_rows(1, 128);
      x[place] = bad;
      const Activations got(kernel_table(GetParam()), x, 1, 128);
      EXPECT_TRUE(std::isnan(got.numbers[0].scale)) << bad << " at " << place;
      EXPECT_TRUE(std::isfinite(got.numbers[1].scale));
    }
  }
  const Activations zero(kernel_table(GetParam()), std::vector<float>(64, 0.0F), 1, 64);
  EXPECT_EQ(zero.numbers[0].scale, 0.0F);
  EXPECT_EQ(zero.numbers[0].sum, 0.0F);
}

TEST_P(PanelKernels, ProductsAreTheSameBitsForAnyBatchAndCloseToDoubleArithmetic) {
  const KernelTable& table = kernel_table(GetParam());
  for (const Form& form : kForms) {
    for (const int64_t cols : {int64_t{96}, int64_t{256}, int64_t{384}, int64_t{2560}}) {
      if (cols % form.group != 0) continue;
      if (form.scale_type == ScaleType::kI8 && cols % kFactorCols != 0) continue;
      constexpr int kRows = 73;
      constexpr int kTokens = 45;
      const Weights w = make_weights(form, kRows, cols);
      const std::vector<float> x = make_rows(kTokens, cols);
      Activations activations(kernel_table(Isa::kScalar), x, kTokens, cols);
      HugeMemory scratch(kPanelScratchBytes, "test scratch");
      std::vector<float> bias(kRows);
      for (size_t i = 0; i < bias.size(); ++i) bias[i] = static_cast<float>(i) / 8.0F;
      PanelProductArgs args{};
      args.layout = &w.layout;
      args.panels = w.panels.data();
      args.n_panels = 3;
      args.n_rows = kRows;
      args.x = activations.rows(0);
      args.n_tokens = kTokens;
      args.y_stride = kRows;
      args.bias = bias.data();
      args.scratch = scratch.data();
      std::vector<float> expected(static_cast<size_t>(kRows) * kTokens);
      args.y = expected.data();
      kernel_table(Isa::kScalar).panel_product(args);
      std::vector<float> got(expected.size());
      args.y = got.data();
      table.panel_product(args);
      EXPECT_EQ(std::memcmp(got.data(), expected.data(), got.size() * 4), 0) << form.name << ", " << cols;
      // Parts: few tokens at a time, one panel at a time.
      std::vector<float> parts(expected.size());
      for (int first = 0, n = 1; first < kTokens; first += n, n = n % 7 + 1) {
        n = std::min(n, kTokens - first);
        for (int panel = 0; panel < 3; ++panel) {
          PanelProductArgs part = args;
          part.panels += static_cast<size_t>(panel) * w.layout.panel_bytes;
          part.n_panels = 1;
          part.n_rows = std::min(kPanelRows, kRows - panel * kPanelRows);
          part.bias += panel * kPanelRows;
          part.x = activations.rows(first);
          part.n_tokens = n;
          part.y = parts.data() + first * kRows + panel * kPanelRows;
          table.panel_product(part);
        }
      }
      EXPECT_EQ(std::memcmp(parts.data(), expected.data(), parts.size() * 4), 0) << form.name << ", " << cols;
      for (int t = 0; t < kTokens; ++t) {
        for (int r = 0; r < kRows; ++r) {
          double sum = double{bias[static_cast<size_t>(r)]};
          double size = 1;
          for (int64_t k = 0; k < cols; ++k) {
            const double term = w.values[static_cast<size_t>(r * cols + k)] * activations.value(t, k);
            sum += term;
            size += std::abs(term);
          }
          ASSERT_NEAR(double{got[static_cast<size_t>(t * kRows + r)]}, sum, 2e-6 * size) << form.name << " row " << r;
        }
      }
    }
  }
}

}  // namespace
}  // namespace mobilellm
