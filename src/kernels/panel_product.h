// Products of panels of quantized weights with 8-bit activations, and the quantization of activations; included by each
// ISA file after its vec16 and codes headers.
//
// Per element of the result: integers within a block are exact; blocks are added in rising order by one fused
// multiply-add each (two with biases). So all tilings, and all instruction sets, give the same bits.
#include "kernels/panel_rows.h"
#include "kernels/panels.h"

namespace {

using mobilellm::PanelProductArgs;
using mobilellm::QuantizedRows;
using mobilellm::QuantizeRowsArgs;

// Up to 16 numbers of n that there are.
inline Vec16 load_rows(const float* p, int n) { return n >= kLanes ? Vec16::load(p) : Vec16::load_partial(p, n); }
inline void store_rows(Vec16 v, float* p, int n) {
  if (n >= kLanes) {
    v.store(p);
  } else {
    v.store_partial(p, n);
  }
}

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
      a.out.zeros[at] = -static_cast<int32_t>(zero) & 0xffff;
      a.out.sums[at] = scale * ((u0 + u1).reduce_add() - zero * static_cast<float>(kBlockCols));
    }
  }
}

// Adds to the totals of kVectors vectors of rows of one panel times kTokens tokens the blocks of `range`; `rows` count
// blocks from its begin.
template <CodeRange kRange, int kHalves, int kVectors, int kTokens, typename Rows>
void product_tile(const PanelLayout& layout, const Rows* rows, const QuantizedRows& x, int64_t token, BlockRange range,
                  Vec16 (&total)[kTokens][kVectors]) {
  const int64_t n_blocks = layout.n_blocks;
  const uint8_t* codes = x.codes + (token * n_blocks + range.begin) * kBlockCols;
  const float* scales = x.scales + token * n_blocks + range.begin;
  const int32_t* zeros = x.zeros + token * n_blocks + range.begin;
  const float* sums = x.sums + token * n_blocks + range.begin;
  for (int64_t block = 0; block < range.end - range.begin; ++block) {
    const auto stored = rows[0].at(block);
#pragma GCC unroll 2
    for (int half = 0; half < kHalves; ++half) {
      constexpr int kPairs = kStepsPerBlock / 2 / kHalves;
      CodeDot<kRange> dot[kTokens][kVectors];
      CodeDot<kRange> ones[kVectors];
#pragma GCC unroll 8
      for (int t = 0; t < kTokens; ++t) {
#pragma GCC unroll 2
        for (int p = 0; p < kVectors; ++p) dot[t][p].clear();
      }
      if constexpr (!Rows::kHasCodeSums) {
#pragma GCC unroll 2
        for (int p = 0; p < kVectors; ++p) ones[p].clear();
      }
#pragma GCC unroll 4
      for (int i = 0; i < kPairs; ++i) {
        const int pair = half * kPairs + i;
        Codes first[kVectors];
        Codes second[kVectors];
#pragma GCC unroll 2
        for (int p = 0; p < kVectors; ++p) rows[p].load_pair(stored, pair, first[p], second[p]);
#pragma GCC unroll 8
        for (int t = 0; t < kTokens; ++t) {
          const uint8_t* u = codes + (t * n_blocks + block) * kBlockCols + pair * 8;
          uint32_t word = 0;
          __builtin_memcpy(&word, u, 4);
#pragma GCC unroll 2
          for (int p = 0; p < kVectors; ++p) dot[t][p].add(first[p], word);
          __builtin_memcpy(&word, u + 4, 4);
#pragma GCC unroll 2
          for (int p = 0; p < kVectors; ++p) dot[t][p].add(second[p], word);
        }
        if constexpr (!Rows::kHasCodeSums) {
#pragma GCC unroll 2
          for (int p = 0; p < kVectors; ++p) {
            ones[p].add_ones(first[p]);
            ones[p].add_ones(second[p]);
          }
        }
        if ((i & 1) == 1 || kRange == CodeRange::kWithin32) {
#pragma GCC unroll 8
          for (int t = 0; t < kTokens; ++t) {
#pragma GCC unroll 2
            for (int p = 0; p < kVectors; ++p) dot[t][p].flush();
          }
          if constexpr (!Rows::kHasCodeSums) {
#pragma GCC unroll 2
            for (int p = 0; p < kVectors; ++p) ones[p].flush();
          }
        }
      }
      Vec16 scale[kVectors];
      CodeSums code_sums[kVectors];
#pragma GCC unroll 2
      for (int p = 0; p < kVectors; ++p) {
        scale[p] = rows[p].scale(stored, half);
        if constexpr (Rows::kHasCodeSums) {
          code_sums[p] = rows[p].code_sums(stored, half);
        } else {
          code_sums[p] = ones[p].code_sums();
        }
      }
#pragma GCC unroll 8
      for (int t = 0; t < kTokens; ++t) {
        const Vec16 s = Vec16::set1(scales[t * n_blocks + block]);
        const int32_t zero = zeros[t * n_blocks + block];
#pragma GCC unroll 2
        for (int p = 0; p < kVectors; ++p) {
          total[t][p] = Vec16::fma(scale[p] * s, dot[t][p].plus(code_sums[p], zero), total[t][p]);
        }
      }
    }
    if (layout.has_bias) {
      Vec16 bias[kVectors];
#pragma GCC unroll 2
      for (int p = 0; p < kVectors; ++p) bias[p] = rows[p].bias(stored);
#pragma GCC unroll 8
      for (int t = 0; t < kTokens; ++t) {
        const Vec16 sum = Vec16::set1(sums[t * n_blocks + block]);
#pragma GCC unroll 2
        for (int p = 0; p < kVectors; ++p) total[t][p] = Vec16::fma(bias[p], sum, total[t][p]);
      }
    }
  }
}

// Vectors first_vector and up of a panel, whose rows begin at `row` of n_rows.
template <CodeRange kRange, int kHalves, int kVectors, int kTokens, typename Rows>
void product_tokens(const PanelProductArgs& a, const Rows* rows, int row, BlockRange range, int& token) {
  for (; token + kTokens <= a.n_tokens; token += kTokens) {
    Vec16 total[kTokens][kVectors];
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) {
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) {
        const int first = row + v * kLanes;
        const bool is_new = range.begin == 0 || first >= a.n_rows;
        total[t][v] = is_new ? Vec16::zero() : load_rows(a.y + (token + t) * a.y_stride + first, a.n_rows - first);
      }
    }
    product_tile<kRange, kHalves, kVectors, kTokens>(*a.layout, rows, a.x, token, range, total);
    const bool has_bias = a.bias != nullptr && range.end == a.layout->n_blocks;
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) {
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) {
        const int first = row + v * kLanes;
        if (first >= a.n_rows) continue;
        Vec16 result = total[t][v];
        if (has_bias) result = result + load_rows(a.bias + first, a.n_rows - first);
        store_rows(result, a.y + (token + t) * a.y_stride + first, a.n_rows - first);
      }
    }
  }
}

}  // namespace
#if defined(MOBILELLM_TILES)
#include "kernels/tile_product.h"
#endif
namespace {

// From this many tokens on, codes are spread out in scratch first: fewer do not pay for it.
#if defined(MOBILELLM_TILES)
constexpr int kSpreadTokens = 16;
#else
constexpr int kSpreadTokens = 40;
#endif

// kVectors vectors of one panel, from first_vector on.
template <CodeRange kRange, int kBits, int kHalves, int kVectors>
void product_vectors(const PanelProductArgs& a, int panel, int first_vector) {
  const PanelLayout& layout = *a.layout;
  const std::byte* base = a.panels + static_cast<size_t>(panel) * layout.panel_bytes;
  const int row = panel * kPanelRows + first_vector * kLanes;
  const StoredRows<kBits> stored[2] = {{layout, base, first_vector}, {layout, base, first_vector + kVectors - 1}};
  if (a.n_tokens < kSpreadTokens) {
    int token = 0;
    product_tokens<kRange, kHalves, kVectors, CodeDot<kRange>::kTileTokens>(a, stored, row, {0, layout.n_blocks},
                                                                            token);
    product_tokens<kRange, kHalves, kVectors, 4>(a, stored, row, {0, layout.n_blocks}, token);
    product_tokens<kRange, kHalves, kVectors, 2>(a, stored, row, {0, layout.n_blocks}, token);
    product_tokens<kRange, kHalves, kVectors, 1>(a, stored, row, {0, layout.n_blocks}, token);
    return;
  }
  const SpreadRows rows[2] = {{a.scratch, 0}, {a.scratch, 1}};
  for (int64_t begin = 0; begin < layout.n_blocks; begin += kSpreadBlocks) {
    const BlockRange range{begin, begin + kSpreadBlocks < layout.n_blocks ? begin + kSpreadBlocks : layout.n_blocks};
    for (int v = 0; v < kVectors; ++v) spread<kBits, kHalves>(stored[v], range, rows[v]);
    int token = 0;
#if defined(MOBILELLM_TILES)
    TileProduct<kHalves, kVectors>(a, rows, row, range).run(token);
#endif
    product_tokens<kRange, kHalves, kVectors, CodeDot<kRange>::kTileTokens>(a, rows, row, range, token);
    product_tokens<kRange, kHalves, kVectors, 2>(a, rows, row, range, token);
    product_tokens<kRange, kHalves, kVectors, 1>(a, rows, row, range, token);
  }
}

template <CodeRange kRange, int kBits, int kHalves>
void product_all(const PanelProductArgs& a) {
  constexpr int kVectors = CodeDot<kRange>::kTileVectors;
  for (int panel = 0; panel < a.n_panels; ++panel) {
    for (int vector = 0; vector < kPanelRows / kLanes; vector += kVectors) {
      product_vectors<kRange, kBits, kHalves, kVectors>(a, panel, vector);
    }
  }
}

// Codes of 2, 3 and 5 bits are always within +-16, those of 6 bits within +-32.
void panel_product(const PanelProductArgs& a) noexcept {
  constexpr CodeRange kSmall = CodeRange::kWithin16;
  constexpr CodeRange kWide = CodeRange::kSignedByte;
  const bool has_halves = a.layout->group == 16;
  const bool is_small = a.layout->code_range == kSmall;
  switch (a.layout->bits) {
    case 2:
      return product_all<kSmall, 2, 1>(a);
    case 3:
      return has_halves ? product_all<kSmall, 3, 2>(a) : product_all<kSmall, 3, 1>(a);
    case 4:
      if (is_small) return has_halves ? product_all<kSmall, 4, 2>(a) : product_all<kSmall, 4, 1>(a);
      return has_halves ? product_all<kWide, 4, 2>(a) : product_all<kWide, 4, 1>(a);
    case 5:
      return product_all<kSmall, 5, 1>(a);
    case 6:
      return has_halves ? product_all<CodeRange::kWithin32, 6, 2>(a) : product_all<CodeRange::kWithin32, 6, 1>(a);
    default:
      return product_all<kWide, 8, 1>(a);
  }
}

}  // namespace
