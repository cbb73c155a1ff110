// Products of panels of quantized weights with 8-bit activations, and the quantization of activations; included by each
// ISA file after its vec16 and codes headers.
//
// Per element of the result: integers within a block are exact; blocks are added in rising order by one fused
// multiply-add each (two with biases). So all tilings, and all instruction sets, give the same bits.
#include "kernels/panels.h"

namespace {

using mobilellm::kBlockCols;
using mobilellm::kLanes;
using mobilellm::kPanelRows;
using mobilellm::PanelLayout;
using mobilellm::PanelProductArgs;
using mobilellm::QuantizedRows;
using mobilellm::QuantizeRowsArgs;
using mobilellm::ScaleType;

using mobilellm::kSpreadBlocks;
using mobilellm::kSpreadHalfBytes;

constexpr int kStepsPerBlock = kBlockCols / 4;

struct BlockRange {
  int64_t begin;
  int64_t end;
};

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

// Scales of 16 rows.
inline Vec16 load_scales(const std::byte* p, int vector, ScaleType type) {
  switch (type) {
    case ScaleType::kF16:
      return Vec16::load_f16(p + vector * kLanes * 2);
    case ScaleType::kBF16:
      return Vec16::load_bf16(p + vector * kLanes * 2);
    case ScaleType::kF32:
      break;
  }
  return Vec16::load(p + vector * kLanes * 4);
}

// How far ahead of the codes in use memory is asked for.
constexpr int kPrefetchBytes = 4096;

// A block of one panel as it is stored, both vectors of rows.
struct StoredBlock {
  const std::byte* codes;
  const std::byte* header;
};

// 16 rows of a panel as it is stored: codes are unpacked in registers.
template <int kBits>
struct StoredRows {
  const std::byte* panel;
  const PanelLayout* layout;
  CodeTable table;
  int vector;
  int log2_unit;

  StoredRows(const PanelLayout& l, const std::byte* p, int v)
      : panel(p),
        layout(&l),
        table(CodeTable::load(l.table)),
        vector(v),
        log2_unit(l.group <= kBlockCols ? 0 : __builtin_ctz(static_cast<unsigned>(l.group / kBlockCols))) {}

  StoredBlock at(int64_t block) const {
    const std::byte* unit = panel + (block >> log2_unit) * static_cast<int64_t>(layout->unit_bytes);
    const int64_t index = block & ((int64_t{1} << log2_unit) - 1);
    return {unit + layout->header_bytes + index * static_cast<int64_t>(layout->block_bytes), unit};
  }
  // Codes of steps 2 * pair and 2 * pair + 1 (4 columns each) of a block.
  void load_pair(const StoredBlock& block, int pair, Codes& first, Codes& second) const {
    if constexpr (kBits == 4) {
      const std::byte* p = block.codes + pair * 128 + vector * 64;
      __builtin_prefetch(p + kPrefetchBytes);
      table.unpack(p, first, second);
    } else {
      const std::byte* p = block.codes + pair * 256 + vector * 64;
      __builtin_prefetch(p + kPrefetchBytes);
      __builtin_prefetch(p + 128 + kPrefetchBytes);
      first = Codes::load(p);
      second = Codes::load(p + 128);
    }
  }
  Vec16 scale(const StoredBlock& block, int half) const {
    return load_scales(block.header + static_cast<size_t>(half) * layout->scales_bytes, vector, layout->scale_type);
  }
  Vec16 bias(const StoredBlock& block) const {
    const Vec16 bias = load_scales(block.header + layout->scales_bytes, vector, layout->scale_type);
    return Vec16::fma(Vec16::set1(layout->offset), scale(block, 0), bias);
  }
  static constexpr bool kHasCodeSums = false;
  CodeSums code_sums(const StoredBlock& /*block*/, int /*half*/) const { return CodeSums{}; }
};

// Some blocks of 16 rows spread out in scratch: codes of 8 bits, then per block two scales, one bias and two sums of
// codes.
struct SpreadRows {
  std::byte* codes;
  float* numbers;

  SpreadRows(std::byte* scratch, int vector)
      : codes(scratch + static_cast<size_t>(vector) * kSpreadHalfBytes),
        numbers(reinterpret_cast<float*>(codes + size_t{kSpreadBlocks} * kLanes * kBlockCols)) {}

  static int64_t at(int64_t block) { return block; }
  float* number(int64_t block, int index) const { return numbers + (block * 5 + index) * kLanes; }
  std::byte* step(int64_t block, int index) const { return codes + (block * kStepsPerBlock + index) * 64; }
  void load_pair(int64_t block, int pair, Codes& first, Codes& second) const {
    first = Codes::load(step(block, 2 * pair));
    second = Codes::load(step(block, 2 * pair + 1));
  }
  Vec16 scale(int64_t block, int half) const { return Vec16::load(number(block, half)); }
  Vec16 bias(int64_t block) const { return Vec16::load(number(block, 2)); }
  static constexpr bool kHasCodeSums = true;
  CodeSums code_sums(int64_t block, int half) const { return CodeSums::load(number(block, 3 + half)); }
};

template <int kBits, int kHalves>
void spread(const StoredRows<kBits>& in, BlockRange range, const SpreadRows& out) {
  for (int64_t index = range.begin; index < range.end; ++index) {
    const StoredBlock block = in.at(index);
    const int64_t to = index - range.begin;
    for (int half = 0; half < kHalves; ++half) {
      constexpr int kPairs = kStepsPerBlock / 2 / kHalves;
      CodeDot<false> sums;
      sums.clear();
      for (int pair = half * kPairs; pair < (half + 1) * kPairs; ++pair) {
        Codes first;
        Codes second;
        in.load_pair(block, pair, first, second);
        first.store(out.step(to, 2 * pair));
        second.store(out.step(to, 2 * pair + 1));
        sums.add_ones(first);
        sums.add_ones(second);
        sums.flush();
      }
      sums.code_sums().store(out.number(to, 3 + half));
      in.scale(block, half).store(out.number(to, half));
    }
    if (in.layout->has_bias) in.bias(block).store(out.number(to, 2));
  }
}

// Adds to the totals of kVectors vectors of rows of one panel times kTokens tokens the blocks of `range`; `rows` count
// blocks from its begin.
template <bool kSmallCodes, int kHalves, int kVectors, int kTokens, typename Rows>
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
      CodeDot<kSmallCodes> dot[kTokens][kVectors];
      CodeDot<kSmallCodes> ones[kVectors];
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
        if ((i & 1) == 1) {
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
template <bool kSmallCodes, int kHalves, int kVectors, int kTokens, typename Rows>
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
    product_tile<kSmallCodes, kHalves, kVectors, kTokens>(*a.layout, rows, a.x, token, range, total);
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

// From this many tokens on, codes are spread out in scratch first: fewer do not pay for it.
constexpr int kSpreadTokens = 40;

// kVectors vectors of one panel, from first_vector on.
template <bool kSmallCodes, int kBits, int kHalves, int kVectors>
void product_vectors(const PanelProductArgs& a, int panel, int first_vector) {
  const PanelLayout& layout = *a.layout;
  const std::byte* base = a.panels + static_cast<size_t>(panel) * layout.panel_bytes;
  const int row = panel * kPanelRows + first_vector * kLanes;
  const StoredRows<kBits> stored[2] = {{layout, base, first_vector}, {layout, base, first_vector + kVectors - 1}};
  if (a.n_tokens < kSpreadTokens) {
    int token = 0;
    product_tokens<kSmallCodes, kHalves, kVectors, CodeDot<kSmallCodes>::kTileTokens>(a, stored, row,
                                                                                      {0, layout.n_blocks}, token);
    product_tokens<kSmallCodes, kHalves, kVectors, 4>(a, stored, row, {0, layout.n_blocks}, token);
    product_tokens<kSmallCodes, kHalves, kVectors, 2>(a, stored, row, {0, layout.n_blocks}, token);
    product_tokens<kSmallCodes, kHalves, kVectors, 1>(a, stored, row, {0, layout.n_blocks}, token);
    return;
  }
  const SpreadRows rows[2] = {{a.scratch, 0}, {a.scratch, 1}};
  for (int64_t begin = 0; begin < layout.n_blocks; begin += kSpreadBlocks) {
    const BlockRange range{begin, begin + kSpreadBlocks < layout.n_blocks ? begin + kSpreadBlocks : layout.n_blocks};
    for (int v = 0; v < kVectors; ++v) spread<kBits, kHalves>(stored[v], range, rows[v]);
    int token = 0;
    product_tokens<kSmallCodes, kHalves, kVectors, CodeDot<kSmallCodes>::kTileTokens>(a, rows, row, range, token);
    product_tokens<kSmallCodes, kHalves, kVectors, 2>(a, rows, row, range, token);
    product_tokens<kSmallCodes, kHalves, kVectors, 1>(a, rows, row, range, token);
  }
}

template <bool kSmallCodes, int kBits, int kHalves>
void product_all(const PanelProductArgs& a) {
  constexpr int kVectors = CodeDot<kSmallCodes>::kTileVectors;
  for (int panel = 0; panel < a.n_panels; ++panel) {
    for (int vector = 0; vector < kPanelRows / kLanes; vector += kVectors) {
      product_vectors<kSmallCodes, kBits, kHalves, kVectors>(a, panel, vector);
    }
  }
}

void panel_product(const PanelProductArgs& a) noexcept {
  const bool has_halves = a.layout->group == 16;
  if (a.layout->bits == 8) {
    has_halves ? product_all<false, 8, 2>(a) : product_all<false, 8, 1>(a);
  } else if (a.layout->has_small_codes) {
    has_halves ? product_all<true, 4, 2>(a) : product_all<true, 4, 1>(a);
  } else {
    has_halves ? product_all<false, 4, 2>(a) : product_all<false, 4, 1>(a);
  }
}

}  // namespace
