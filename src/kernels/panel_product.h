// Products of panels of quantized weights with 8-bit activations, and the quantization of activations; included by each
// ISA file after its vec16 and codes headers.
//
// Per element of the result: integers within a block are exact; blocks are added in rising order by one fused
// multiply-add each (two with biases). So all tilings, and all instruction sets, give the same bits.
#include "kernels/panels.h"

namespace {

using mobilellm::kBlockCols;
using mobilellm::kPanelRows;
using mobilellm::PanelLayout;
using mobilellm::PanelProductArgs;
using mobilellm::QuantizedRows;
using mobilellm::QuantizeRowsArgs;
using mobilellm::ScaleType;

constexpr int kStepsPerBlock = kBlockCols / 4;

void quantize_rows(const QuantizeRowsArgs& a) noexcept {
  const Vec16 nothing = Vec16::zero();
  for (int t = 0; t < a.n_tokens; ++t) {
    const float* x = a.x + t * a.x_stride;
    for (int64_t block = 0; block < a.out.n_blocks; ++block) {
      const int64_t k = block * kBlockCols;
      const int64_t n = a.n_cols - k;
      const Vec16 x0 = n >= 16 ? Vec16::load(x + k) : Vec16::load_partial(x + k, static_cast<int>(n));
      const Vec16 x1 = n >= 32   ? Vec16::load(x + k + 16)
                       : n <= 16 ? nothing
                                 : Vec16::load_partial(x + k + 16, static_cast<int>(n - 16));
      const float highest = Vec16::max(Vec16::max(x0, x1), nothing).reduce_max();
      const float lowest = -(Vec16::max(Vec16::max(nothing - x0, nothing - x1), nothing).reduce_max());
      const float range = highest - lowest;
      // 0 for finite values, else NaN: such a block must not look like an ordinary one.
      const float poison = Vec16::fma(x0, nothing, x1 * nothing).reduce_add();
      const bool is_flat = !(range > 1e-30F && range < 1e38F);
      const float inverse = is_flat ? 0.0F : 255.0F / range;
      const float zero = is_flat ? 0.0F : __builtin_nearbyintf(-lowest * inverse);
      const Vec16 z = Vec16::set1(zero);
      const Vec16 top = Vec16::set1(255.0F);
      const Vec16 inv = Vec16::set1(inverse);
      const Vec16 u0 = Vec16::min(Vec16::max(Vec16::round(x0 * inv) + z, nothing), top);
      const Vec16 u1 = Vec16::min(Vec16::max(Vec16::round(x1 * inv) + z, nothing), top);
      uint8_t* codes = a.out.codes + (t * a.out.n_blocks + block) * kBlockCols;
      u0.store_u8(codes);
      u1.store_u8(codes + 16);
      const int64_t at = t * a.out.n_blocks + block;
      // A range beyond 1e38 cannot be scaled: it is reported as not finite.
      const float scale = (is_flat ? (range > 1.0F ? __builtin_nanf("") : 0.0F) : range / 255.0F) + poison;
      a.out.scales[at] = scale;
      a.out.zeros[at] = static_cast<int32_t>(zero);
      a.out.sums[at] = scale * ((u0 + u1).reduce_add() - zero * static_cast<float>(kBlockCols));
    }
  }
}

inline Vec16 load_scales(const std::byte* p, int64_t group, ScaleType type) {
  switch (type) {
    case ScaleType::kF16:
      return Vec16::load_f16(p + group * kPanelRows * 2);
    case ScaleType::kBF16:
      return Vec16::load_bf16(p + group * kPanelRows * 2);
    case ScaleType::kF32:
      break;
  }
  return Vec16::load(p + group * kPanelRows * 4);
}

// The stream of a panel is too short for the processor to foresee its continuation in the next one.
constexpr int kPrefetchBytes = 4096;

// One panel as it is stored: codes are unpacked in registers.
template <int kBits>
struct StoredPanel {
  const std::byte* panel;
  const PanelLayout* layout;
  CodeTable table;
  int log2_group;

  StoredPanel(const PanelLayout& l, const std::byte* p)
      : panel(p),
        layout(&l),
        table(CodeTable::load(l.table)),
        log2_group(__builtin_ctz(static_cast<unsigned>(l.group))) {}

  // Codes of steps 2 * pair and 2 * pair + 1 (4 columns each) of a block.
  void load_pair(int64_t block, int pair, Codes& first, Codes& second) const {
    if constexpr (kBits == 4) {
      const std::byte* at = panel + (block * kStepsPerBlock / 2 + pair) * 64;
      __builtin_prefetch(at + kPrefetchBytes);
      table.unpack(at, first, second);
    } else {
      const std::byte* at = panel + (block * kStepsPerBlock + 2 * pair) * 64;
      __builtin_prefetch(at + kPrefetchBytes);
      __builtin_prefetch(at + 64 + kPrefetchBytes);
      first = Codes::load(at);
      second = Codes::load(at + 64);
    }
  }
  Vec16 scale(int64_t block, int half) const {
    return load_scales(panel + layout->scales_offset, (block * kBlockCols + half * 16) >> log2_group,
                       layout->scale_type);
  }
  Vec16 bias(int64_t block) const {
    const Vec16 bias =
        load_scales(panel + layout->biases_offset, (block * kBlockCols) >> log2_group, layout->scale_type);
    return Vec16::fma(Vec16::set1(layout->offset), scale(block, 0), bias);
  }
  static constexpr bool kHasCodeSums = false;
  CodeSums code_sums(int64_t /*block*/, int /*half*/) const { return CodeSums{}; }
};

// One panel spread out in scratch: codes of 8 bits, then per block two scales, one bias and two sums of codes.
struct SpreadPanel {
  std::byte* codes;
  float* numbers;
  bool is_half_block;

  SpreadPanel(const PanelLayout& l, std::byte* scratch, int index)
      : codes(scratch + static_cast<size_t>(index) * bytes(l)),
        numbers(reinterpret_cast<float*>(codes + static_cast<size_t>(l.n_blocks) * kPanelRows * kBlockCols)),
        is_half_block(l.group == 16) {}
  static size_t bytes(const PanelLayout& l) { return mobilellm::panel_scratch_bytes(l) / 2; }

  float* at(int64_t block, int index) const { return numbers + (block * 5 + index) * kPanelRows; }
  void load_pair(int64_t block, int pair, Codes& first, Codes& second) const {
    first = Codes::load(codes + (block * kStepsPerBlock + 2 * pair) * 64);
    second = Codes::load(codes + (block * kStepsPerBlock + 2 * pair + 1) * 64);
  }
  Vec16 scale(int64_t block, int half) const { return Vec16::load(at(block, half)); }
  Vec16 bias(int64_t block) const { return Vec16::load(at(block, 2)); }
  static constexpr bool kHasCodeSums = true;
  CodeSums code_sums(int64_t block, int half) const { return CodeSums::load(at(block, 3 + half)); }
};

template <int kBits, int kHalves>
void spread(const PanelLayout& layout, const std::byte* panel, const SpreadPanel& out) {
  const StoredPanel<kBits> in(layout, panel);
  for (int64_t block = 0; block < layout.n_blocks; ++block) {
    for (int half = 0; half < kHalves; ++half) {
      constexpr int kPairs = kStepsPerBlock / 2 / kHalves;
      CodeDot<false> sums;
      sums.clear();
      for (int pair = half * kPairs; pair < (half + 1) * kPairs; ++pair) {
        Codes first;
        Codes second;
        in.load_pair(block, pair, first, second);
        first.store(out.codes + (block * kStepsPerBlock + 2 * pair) * 64);
        second.store(out.codes + (block * kStepsPerBlock + 2 * pair + 1) * 64);
        sums.add(first, 0x01010101U);
        sums.add(second, 0x01010101U);
        sums.flush();
      }
      sums.code_sums().store(out.at(block, 3 + half));
      in.scale(block, half).store(out.at(block, half));
    }
    if (layout.has_bias) in.bias(block).store(out.at(block, 2));
  }
}

// kPanels panels times kTokens tokens, all columns.
template <bool kSmallCodes, int kHalves, int kPanels, int kTokens, typename Panel>
void product_tile(const PanelLayout& layout, const Panel* panels, const QuantizedRows& x, int64_t token,
                  Vec16 (&total)[kTokens][kPanels]) {
  const int64_t n_blocks = layout.n_blocks;
  const uint8_t* codes = x.codes + token * n_blocks * kBlockCols;
  const float* scales = x.scales + token * n_blocks;
  const int32_t* zeros = x.zeros + token * n_blocks;
  const float* sums = x.sums + token * n_blocks;
#pragma GCC unroll 8
  for (int t = 0; t < kTokens; ++t) {
#pragma GCC unroll 2
    for (int p = 0; p < kPanels; ++p) total[t][p] = Vec16::zero();
  }
  for (int64_t block = 0; block < n_blocks; ++block) {
#pragma GCC unroll 2
    for (int half = 0; half < kHalves; ++half) {
      constexpr int kPairs = kStepsPerBlock / 2 / kHalves;
      CodeDot<kSmallCodes> dot[kTokens][kPanels];
      CodeDot<kSmallCodes> ones[kPanels];
#pragma GCC unroll 8
      for (int t = 0; t < kTokens; ++t) {
#pragma GCC unroll 2
        for (int p = 0; p < kPanels; ++p) dot[t][p].clear();
      }
      if constexpr (!Panel::kHasCodeSums) {
#pragma GCC unroll 2
        for (int p = 0; p < kPanels; ++p) ones[p].clear();
      }
#pragma GCC unroll 4
      for (int i = 0; i < kPairs; ++i) {
        const int pair = half * kPairs + i;
        Codes first[kPanels];
        Codes second[kPanels];
#pragma GCC unroll 2
        for (int p = 0; p < kPanels; ++p) panels[p].load_pair(block, pair, first[p], second[p]);
#pragma GCC unroll 8
        for (int t = 0; t < kTokens; ++t) {
          const uint8_t* u = codes + (t * n_blocks + block) * kBlockCols + pair * 8;
          uint32_t word = 0;
          __builtin_memcpy(&word, u, 4);
#pragma GCC unroll 2
          for (int p = 0; p < kPanels; ++p) dot[t][p].add(first[p], word);
          __builtin_memcpy(&word, u + 4, 4);
#pragma GCC unroll 2
          for (int p = 0; p < kPanels; ++p) dot[t][p].add(second[p], word);
        }
        if constexpr (!Panel::kHasCodeSums) {
#pragma GCC unroll 2
          for (int p = 0; p < kPanels; ++p) {
            ones[p].add(first[p], 0x01010101U);
            ones[p].add(second[p], 0x01010101U);
          }
        }
        if ((i & 1) == 1) {
#pragma GCC unroll 8
          for (int t = 0; t < kTokens; ++t) {
#pragma GCC unroll 2
            for (int p = 0; p < kPanels; ++p) dot[t][p].flush();
          }
          if constexpr (!Panel::kHasCodeSums) {
#pragma GCC unroll 2
            for (int p = 0; p < kPanels; ++p) ones[p].flush();
          }
        }
      }
      Vec16 scale[kPanels];
      CodeSums code_sums[kPanels];
#pragma GCC unroll 2
      for (int p = 0; p < kPanels; ++p) {
        scale[p] = panels[p].scale(block, half);
        if constexpr (Panel::kHasCodeSums) {
          code_sums[p] = panels[p].code_sums(block, half);
        } else {
          code_sums[p] = ones[p].code_sums();
        }
      }
#pragma GCC unroll 8
      for (int t = 0; t < kTokens; ++t) {
        const Vec16 s = Vec16::set1(scales[t * n_blocks + block]);
        const int32_t zero = zeros[t * n_blocks + block];
#pragma GCC unroll 2
        for (int p = 0; p < kPanels; ++p) {
          total[t][p] = Vec16::fma(scale[p] * s, dot[t][p].minus(code_sums[p], zero), total[t][p]);
        }
      }
    }
    if (layout.has_bias) {
      Vec16 bias[kPanels];
#pragma GCC unroll 2
      for (int p = 0; p < kPanels; ++p) bias[p] = panels[p].bias(block);
#pragma GCC unroll 8
      for (int t = 0; t < kTokens; ++t) {
        const Vec16 sum = Vec16::set1(sums[t * n_blocks + block]);
#pragma GCC unroll 2
        for (int p = 0; p < kPanels; ++p) total[t][p] = Vec16::fma(bias[p], sum, total[t][p]);
      }
    }
  }
}

template <bool kSmallCodes, int kHalves, int kPanels, int kTokens, typename Panel>
void product_tokens(const PanelProductArgs& a, const Panel* panels, int first_panel, int& token) {
  for (; token + kTokens <= a.n_tokens; token += kTokens) {
    Vec16 total[kTokens][kPanels];
    product_tile<kSmallCodes, kHalves, kPanels, kTokens>(*a.layout, panels, a.x, token, total);
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) {
#pragma GCC unroll 2
      for (int p = 0; p < kPanels; ++p) {
        const int row = (first_panel + p) * kPanelRows;
        const int n = a.n_rows - row < kPanelRows ? a.n_rows - row : kPanelRows;
        float* y = a.y + (token + t) * a.y_stride + row;
        Vec16 result = total[t][p];
        if (a.bias != nullptr) result = result + Vec16::load_partial(a.bias + row, n);
        if (n == kPanelRows) {
          result.store(y);
        } else {
          result.store_partial(y, n);
        }
      }
    }
  }
}

// From this many tokens on, panels are spread out in scratch first.
constexpr int kSpreadTokens = 6;

template <bool kSmallCodes, int kBits, int kHalves, int kPanels>
void product_panels(const PanelProductArgs& a, int first_panel) {
  const std::byte* base = a.panels + static_cast<size_t>(first_panel) * a.layout->panel_bytes;
  int token = 0;
  if (a.n_tokens >= kSpreadTokens) {
    SpreadPanel panels[2] = {{*a.layout, a.scratch, 0}, {*a.layout, a.scratch, 1}};
    for (int p = 0; p < kPanels; ++p) {
      spread<kBits, kHalves>(*a.layout, base + static_cast<size_t>(p) * a.layout->panel_bytes, panels[p]);
    }
    product_tokens<kSmallCodes, kHalves, kPanels, CodeDot<kSmallCodes>::kTileTokens>(a, panels, first_panel, token);
    product_tokens<kSmallCodes, kHalves, kPanels, 2>(a, panels, first_panel, token);
    product_tokens<kSmallCodes, kHalves, kPanels, 1>(a, panels, first_panel, token);
    return;
  }
  const StoredPanel<kBits> panels[2] = {
      {*a.layout, base}, {*a.layout, base + (kPanels - 1) * static_cast<ptrdiff_t>(a.layout->panel_bytes)}};
  product_tokens<kSmallCodes, kHalves, kPanels, 2>(a, panels, first_panel, token);
  product_tokens<kSmallCodes, kHalves, kPanels, 1>(a, panels, first_panel, token);
}

template <bool kSmallCodes, int kBits, int kHalves>
void product_all(const PanelProductArgs& a) {
  constexpr int kPanels = CodeDot<kSmallCodes>::kTilePanels;
  int panel = 0;
  for (; panel + kPanels <= a.n_panels; panel += kPanels)
    product_panels<kSmallCodes, kBits, kHalves, kPanels>(a, panel);
  for (; panel < a.n_panels; ++panel) product_panels<kSmallCodes, kBits, kHalves, 1>(a, panel);
}

void panel_product(const PanelProductArgs& a) noexcept {
  const PanelLayout& layout = *a.layout;
  const bool has_halves = layout.group == 16;
  if (layout.bits == 8) {
    has_halves ? product_all<false, 8, 2>(a) : product_all<false, 8, 1>(a);
  } else if (layout.has_small_codes) {
    has_halves ? product_all<true, 4, 2>(a) : product_all<true, 4, 1>(a);
  } else {
    has_halves ? product_all<false, 4, 2>(a) : product_all<false, 4, 1>(a);
  }
}

}  // namespace
