// Products on emulated AMX tiles: the same bits as the scalar kernels, and no use of a tile that the processor would
// refuse. The kernels here are compiled like an instruction set's own.
#include "kernels/isa/vec16_scalar.h"

// clang-format off: the order matters, each header uses the ones above it.
#include "kernels/isa/codes_scalar.h"
#include "kernels/isa/tile_emulated.h"
#include "kernels/panel_product.h"
// clang-format on

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/huge_memory.h"
#include "base/random.h"
#include "kernels/kernels.h"

namespace mobilellm {
namespace {

struct Form {
  int bits;
  int group;
  ScaleType scale_type;
  bool has_bias;
  int64_t cols;
};

TEST(TileProduct, GivesTheBitsOfTheScalarKernels) {
  constexpr int kRows = 73;
  constexpr int kMaxTokens = 50;
  // 2,144 columns: more blocks than are spread out at once, and a last chunk that is not full.
  for (const Form& form : {Form{4, 32, ScaleType::kF32, false, 384}, Form{4, 64, ScaleType::kF32, true, 2112},
                           Form{4, 16, ScaleType::kF32, false, 2144}, Form{8, 32, ScaleType::kF32, false, 2144},
                           Form{8, 128, ScaleType::kF32, true, 128}, Form{6, 16, ScaleType::kF32, false, 48}}) {
    SCOPED_TRACE(std::to_string(form.bits) + " bits, group " + std::to_string(form.group));
    PanelLayout layout;
    layout.rows = kRows;
    layout.cols = form.cols;
    layout.bits = form.bits;
    layout.group = form.group;
    layout.scale_type = form.scale_type;
    layout.has_bias = form.has_bias;
    layout.offset = 8;
    for (int i = 0; i < 16; ++i) layout.table[i] = static_cast<int8_t>(17 * i - 128);
    layout.set_sizes();
    HugeMemory panels(static_cast<size_t>(layout.n_panels()) * layout.panel_bytes, "test panels");
    for (size_t i = 0; i < panels.size(); ++i) panels.data()[i] = static_cast<std::byte>(random_bits(2, 7, i));
    // Scales and biases are numbers.
    for (int64_t panel = 0; panel < layout.n_panels(); ++panel) {
      for (size_t unit = 0; unit < layout.panel_bytes; unit += layout.unit_bytes) {
        std::byte* header = panels.data() + static_cast<size_t>(panel) * layout.panel_bytes + unit;
        for (size_t i = 0; i < layout.header_bytes; i += 4) {
          const auto number = static_cast<float>(random_uniform(3, unit, i) - 0.5);
          std::memcpy(header + i, &number, 4);
        }
      }
    }
    std::vector<float> x(static_cast<size_t>(kMaxTokens * form.cols));
    for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(3.0 * random_uniform(4, 8, i) - 1.0);
    const auto n = static_cast<size_t>(kMaxTokens * layout.n_strips());
    std::vector<uint8_t> codes(n * kStripCols);
    std::vector<StripNumbers> numbers(n);
    const QuantizedRows quantized{codes.data(), numbers.data(), layout.n_strips()};
    quantize_rows({x.data(), form.cols, kMaxTokens, form.cols, quantized});
    HugeMemory scratch(kPanelScratchBytes, "test scratch");
    const std::vector<float> bias(kRows, 0.375F);
    for (const int n_tokens : {15, 16, 17, 33, kMaxTokens}) {
      std::vector<float> expected(static_cast<size_t>(kRows * n_tokens));
      std::vector<float> got(expected.size());
      PanelProductArgs args{&layout,       panels.data(), static_cast<int>(layout.n_panels()),
                            kRows,         quantized,     n_tokens,
                            got.data(),    kRows,         bias.data(),
                            scratch.data()};
      ::panel_product(args);
      args.y = expected.data();
      kernel_table(Isa::kScalar).panel_product(args);
      EXPECT_EQ(std::memcmp(got.data(), expected.data(), got.size() * 4), 0) << n_tokens << " tokens";
    }
  }
  EXPECT_EQ(tile_faults, 0);
}

}  // namespace
}  // namespace mobilellm
