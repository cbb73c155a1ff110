// Products of panels of quantized weights with 8-bit activations, and the quantization of activations; included by each
// ISA file after its vec16 and codes headers.
//
// Per element of the result: integers within a group (or what of it lies in a strip) are exact; the groups of a strip
// are added in rising order by one fused multiply-add each, then the strip to the total by two more, and its biases. So
// all tilings, and all instruction sets, give the same bits.
#include "kernels/panel_rows.h"
#include "kernels/panels.h"

namespace {

using mobilellm::PanelProductArgs;
using mobilellm::QuantizedRows;
using mobilellm::QuantizeRowsArgs;
using mobilellm::StripNumbers;

// Up to 16 numbers of n that there are.
inline Vec16 load_rows(const float* p, int n) { return n >= kLanes ? Vec16::load(p) : Vec16::load_partial(p, n); }
inline void store_rows(Vec16 v, float* p, int n) {
  if (n >= kLanes) {
    v.store(p);
  } else {
    v.store_partial(p, n);
  }
}

// Columns [at, at + 16) of a row of n.
inline Vec16 load_columns(const float* x, int64_t at, int64_t n) {
  if (at + kLanes <= n) return Vec16::load(x + at);
  return at < n ? Vec16::load_partial(x + at, static_cast<int>(n - at)) : Vec16::zero();
}

void quantize_strip(const float* x, int64_t at, int64_t n_cols, uint8_t* codes, StripNumbers& numbers) {
  constexpr int kVectors = kStripCols / kLanes;
  const Vec16 nothing = Vec16::zero();
  Vec16 v[kVectors];
  Vec16 most = nothing;
  Vec16 least = nothing;
  // 0 for finite values, else NaN: such a strip must not look like an ordinary one.
  Vec16 poison = nothing;
#pragma GCC unroll 4
  for (int i = 0; i < kVectors; ++i) {
    v[i] = load_columns(x, at + i * kLanes, n_cols);
    most = Vec16::max(v[i], most);
    least = Vec16::min(v[i], least);
    poison = Vec16::fma(v[i], nothing, poison);
  }
  const float lowest = -((nothing - least).reduce_max());
  const float range = most.reduce_max() - lowest;
  const bool is_flat = !(range > 1e-30F && range < 1e38F);
  const float inverse = is_flat ? 0.0F : 255.0F / range;
  const float zero = is_flat ? 0.0F : __builtin_nearbyintf(-lowest * inverse);
  const Vec16 z = Vec16::set1(zero);
  const Vec16 top = Vec16::set1(255.0F);
  const Vec16 inv = Vec16::set1(inverse);
#pragma GCC unroll 4
  for (int i = 0; i < kVectors; ++i) {
    v[i] = Vec16::min(Vec16::max(Vec16::round(v[i] * inv) + z, nothing), top);
    v[i].store_u8(codes + i * kLanes);
  }
  const float first = (v[0] + v[1] + poison).reduce_add();
  const float second = (v[2] + v[3]).reduce_add();
  // A range beyond 1e38 cannot be scaled: it is reported as not finite.
  const float scale = (is_flat ? (range > 1.0F ? __builtin_nanf("") : 0.0F) : range / 255.0F) + (first - first);
  const float zeros = zero * static_cast<float>(kBlockCols);
  numbers.scale = scale;
  numbers.offset = -scale * zero;
  numbers.sum = scale * ((first - zeros) + (second - zeros));
  numbers.block_sums[0] = scale * (first - zeros);
  numbers.block_sums[1] = scale * (second - zeros);
}

void quantize_rows(const QuantizeRowsArgs& a) noexcept {
  for (int t = 0; t < a.n_tokens; ++t) {
    for (int64_t strip = 0; strip < a.out.n_strips; ++strip) {
      const int64_t at = t * a.out.n_strips + strip;
      quantize_strip(a.x + t * a.x_stride, strip * kStripCols, a.n_cols, a.out.codes + at * kStripCols,
                     a.out.numbers[at]);
    }
  }
}

// Adds a strip to a total: `sum` is sum(d I), `scaled_sum` sum(d S).
inline Vec16 add_strip(const StripNumbers& x, Vec16 sum, Vec16 scaled_sum, Vec16 total) {
  return Vec16::fma(Vec16::set1(x.offset), scaled_sum, Vec16::fma(Vec16::set1(x.scale), sum, total));
}

template <int kParts>
inline Vec16 add_bias(const StripNumbers& x, int part, Vec16 bias, Vec16 total) {
  return Vec16::fma(bias, Vec16::set1(kParts == 1 ? x.sum : x.block_sums[part]), total);
}

// Adds to the totals of kVectors vectors of rows of one panel times kTokens tokens the strips of `range`; `rows` count
// strips from its begin.
template <CodeRange kRange, int kParts, int kVectors, int kTokens, typename Rows>
void product_tile(const PanelLayout& layout, const Rows* rows, const QuantizedRows& x, int64_t token, StripRange range,
                  Vec16 (&total)[kTokens][kVectors]) {
  constexpr int kPairs = kPairsPerStrip / kParts;
  const int64_t n_strips = layout.n_strips();
  const uint8_t* codes = x.codes + (token * n_strips + range.begin) * kStripCols;
  const StripNumbers* numbers = x.numbers + token * n_strips + range.begin;
  for (int64_t strip = 0; strip < range.end - range.begin; ++strip) {
    const auto stored = rows[0].at(strip);
    Vec16 sum[kTokens][kVectors];
    Vec16 scaled_sum[kVectors];
#pragma GCC unroll 4
    for (int part = 0; part < kParts; ++part) {
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
        const int pair = part * kPairs + i;
        Codes first[kVectors];
        Codes second[kVectors];
#pragma GCC unroll 2
        for (int p = 0; p < kVectors; ++p) rows[p].load_pair(stored, pair, first[p], second[p]);
#pragma GCC unroll 8
        for (int t = 0; t < kTokens; ++t) {
          const uint8_t* u = codes + (t * n_strips + strip) * kStripCols + pair * 8;
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
#pragma GCC unroll 2
      for (int p = 0; p < kVectors; ++p) {
        const Vec16 scale = rows[p].scale(stored, part);
        CodeSums code_sums;
        if constexpr (Rows::kHasCodeSums) {
          code_sums = rows[p].code_sums(stored, part);
        } else {
          code_sums = ones[p].code_sums();
          scaled_sum[p] = add_scaled(scale, code_sums.as_floats(), part, scaled_sum[p]);
        }
#pragma GCC unroll 8
        for (int t = 0; t < kTokens; ++t) sum[t][p] = add_scaled(scale, dot[t][p].value(code_sums), part, sum[t][p]);
      }
    }
#pragma GCC unroll 2
    for (int p = 0; p < kVectors; ++p) {
      if constexpr (Rows::kHasCodeSums) scaled_sum[p] = rows[p].scaled_sum(stored);
    }
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) {
      const StripNumbers& of_strip = numbers[t * n_strips + strip];
#pragma GCC unroll 2
      for (int p = 0; p < kVectors; ++p) total[t][p] = add_strip(of_strip, sum[t][p], scaled_sum[p], total[t][p]);
    }
    if constexpr (kParts < 4) {
      if (layout.has_bias) {
#pragma GCC unroll 2
        for (int part = 0; part < kParts; ++part) {
          Vec16 bias[kVectors];
#pragma GCC unroll 2
          for (int p = 0; p < kVectors; ++p) bias[p] = rows[p].bias(stored, part);
#pragma GCC unroll 8
          for (int t = 0; t < kTokens; ++t) {
            const StripNumbers& of_strip = numbers[t * n_strips + strip];
#pragma GCC unroll 2
            for (int p = 0; p < kVectors; ++p) total[t][p] = add_bias<kParts>(of_strip, part, bias[p], total[t][p]);
          }
        }
      }
    }
  }
}

// Vectors first_vector and up of a panel, whose rows begin at `row` of n_rows.
template <CodeRange kRange, int kParts, int kVectors, int kTokens, typename Rows>
void product_tokens(const PanelProductArgs& a, const Rows* rows, int row, StripRange range, int& token) {
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
    product_tile<kRange, kParts, kVectors, kTokens>(*a.layout, rows, a.x, token, range, total);
    const bool has_bias = a.bias != nullptr && range.end == a.layout->n_strips();
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
template <CodeRange kRange, int kBits, int kParts, int kVectors>
void product_vectors(const PanelProductArgs& a, int panel, int first_vector) {
  const PanelLayout& layout = *a.layout;
  const std::byte* base = a.panels + static_cast<size_t>(panel) * layout.panel_bytes;
  const int row = panel * kPanelRows + first_vector * kLanes;
  const StoredRows<kBits, kParts> stored[2] = {{layout, base, first_vector},
                                               {layout, base, first_vector + kVectors - 1}};
  if (a.n_tokens < kSpreadTokens) {
    int token = 0;
    product_tokens<kRange, kParts, kVectors, CodeDot<kRange>::kTileTokens>(a, stored, row, {0, layout.n_strips()},
                                                                           token);
    product_tokens<kRange, kParts, kVectors, 4>(a, stored, row, {0, layout.n_strips()}, token);
    product_tokens<kRange, kParts, kVectors, 2>(a, stored, row, {0, layout.n_strips()}, token);
    product_tokens<kRange, kParts, kVectors, 1>(a, stored, row, {0, layout.n_strips()}, token);
    return;
  }
  const SpreadRows rows[2] = {{a.scratch, 0}, {a.scratch, 1}};
  for (int64_t begin = 0; begin < layout.n_strips(); begin += kSpreadStrips) {
    const StripRange range{begin,
                           begin + kSpreadStrips < layout.n_strips() ? begin + kSpreadStrips : layout.n_strips()};
    for (int v = 0; v < kVectors; ++v) spread<kBits, kParts>(stored[v], range, rows[v]);
    int token = 0;
#if defined(MOBILELLM_TILES)
    TileProduct<kParts, kVectors>(a, rows, row, range).run(token);
#endif
    product_tokens<kRange, kParts, kVectors, CodeDot<kRange>::kSpreadTileTokens>(a, rows, row, range, token);
    product_tokens<kRange, kParts, kVectors, 2>(a, rows, row, range, token);
    product_tokens<kRange, kParts, kVectors, 1>(a, rows, row, range, token);
  }
}

template <CodeRange kRange, int kBits, int kParts>
void product_parts(const PanelProductArgs& a) {
  constexpr int kVectors = CodeDot<kRange>::kTileVectors;
  for (int panel = 0; panel < a.n_panels; ++panel) {
    for (int vector = 0; vector < kPanelRows / kLanes; vector += kVectors) {
      product_vectors<kRange, kBits, kParts, kVectors>(a, panel, vector);
    }
  }
}

// Groups of 16 columns only where a format has them.
template <CodeRange kRange, int kBits, bool kHasSmallGroups = false>
void product_groups(const PanelProductArgs& a) {
  if constexpr (kHasSmallGroups) {
    if (a.layout->group == kLanes) return product_parts<kRange, kBits, 4>(a);
  }
  return a.layout->group == kBlockCols ? product_parts<kRange, kBits, 2>(a) : product_parts<kRange, kBits, 1>(a);
}

// Codes of 2, 3 and 5 bits are always within +-16, those of 6 bits within +-32.
void panel_product(const PanelProductArgs& a) noexcept {
  constexpr CodeRange kSmall = CodeRange::kWithin16;
  constexpr CodeRange kWide = CodeRange::kSignedByte;
  switch (a.layout->bits) {
    case 2:
      return product_groups<kSmall, 2>(a);
    case 3:
      return product_groups<kSmall, 3, true>(a);
    case 4:
      if (a.layout->code_range == kSmall) return product_groups<kSmall, 4, true>(a);
      return product_groups<kWide, 4, true>(a);
    case 5:
      return product_groups<kSmall, 5>(a);
    case 6:
      return product_groups<CodeRange::kWithin32, 6, true>(a);
    default:
      return product_groups<kWide, 8>(a);
  }
}

}  // namespace
