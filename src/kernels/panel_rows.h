// Rows of panels as the products read them: as they are stored, or spread out in scratch; included by panel_product.h.
#include "kernels/panels.h"

namespace {

using mobilellm::kBlockCols;
using mobilellm::kLanes;
using mobilellm::kPanelRows;
using mobilellm::kSpreadBlocks;
using mobilellm::kSpreadHalfBytes;
using mobilellm::PanelLayout;
using mobilellm::ScaleType;

constexpr int kStepsPerBlock = kBlockCols / 4;

struct BlockRange {
  int64_t begin;
  int64_t end;
};

// How far ahead of the codes in use memory is asked for.
constexpr int kPrefetchBytes = 4096;

// Where a block of one panel is stored, both vectors of rows.
struct StoredBlock {
  const std::byte* codes;
  const std::byte* unit;
  int index;  // in its unit
};

// 16 rows of a panel as it is stored: codes are unpacked in registers.
template <int kBits>
struct StoredRows {
  const std::byte* panel;
  const PanelLayout* layout;
  CodeTable table;
  Codes zero;
  int vector;
  int log2_unit;

  StoredRows(const PanelLayout& l, const std::byte* p, int v)
      : panel(p),
        layout(&l),
        table(CodeTable::load(l.table)),
        zero(Codes::fill(l.zero)),
        vector(v),
        log2_unit(__builtin_ctz(static_cast<unsigned>(l.unit_blocks()))) {}

  StoredBlock at(int64_t block) const {
    const std::byte* unit = panel + (block >> log2_unit) * static_cast<int64_t>(layout->unit_bytes);
    const int64_t index = block & ((int64_t{1} << log2_unit) - 1);
    return {unit + layout->header_bytes + index * static_cast<int64_t>(layout->block_bytes), unit,
            static_cast<int>(index)};
  }
  // Integers of steps 2 * pair and 2 * pair + 1 (4 columns each) of a block.
  void load_pair(const StoredBlock& block, int pair, Codes& first, Codes& second) const {
    constexpr int kPlaneWord = kPanelRows * 4;
    const std::byte* p = block.codes + vector * 64;
    if constexpr (kBits == 8) {
      first = load_word(p + 2 * pair * kPlaneWord);
      second = load_word(p + (2 * pair + 1) * kPlaneWord);
    } else if constexpr (kBits == 2 || kBits == 3) {
      const Codes low = load_word(p + pair / 2 * kPlaneWord);
      const int quad = pair % 2 * 2;
      first = low.bits(-2 * quad, 3);
      second = low.bits(-2 * quad - 2, 3);
      if constexpr (kBits == 3) add_bit(load_word(p + 2 * kPlaneWord), 2, pair, first, second);
      first = table.look_up(first);
      second = table.look_up(second);
    } else {
      const Codes low = load_word(p + pair * kPlaneWord);
      first = low.bits(0, 15);
      second = low.bits(-4, 15);
      if constexpr (kBits == 4) {
        first = table.look_up(first);
        second = table.look_up(second);
      } else {
        if constexpr (kBits == 5) add_bit(load_word(p + 4 * kPlaneWord), 4, pair, first, second);
        if constexpr (kBits == 6) {
          const Codes high = load_word(p + (4 + pair / 2) * kPlaneWord);
          const int quad = pair % 2 * 2;
          first = first | high.bits(4 - 2 * quad, 0x30);
          second = second | high.bits(2 - 2 * quad, 0x30);
        }
        first = first - zero;
        second = second - zero;
      }
    }
  }
  Vec16 scale(const StoredBlock& block, int half) const {
    return number(block, layout->factors_bytes, 0, block.index * kBlockCols / layout->group + half);
  }
  Vec16 bias(const StoredBlock& block) const {
    const Vec16 bias = number(block, layout->biases_offset, 1, block.index * kBlockCols / layout->group);
    return Vec16::fma(Vec16::set1(layout->offset), scale(block, 0), bias);
  }
  static constexpr bool kHasCodeSums = false;
  CodeSums code_sums(const StoredBlock& /*block*/, int /*half*/) const { return CodeSums{}; }

 private:
  static Codes load_word(const std::byte* p) {
    __builtin_prefetch(p + kPrefetchBytes);
    return Codes::load(p);
  }
  // Bits of the columns of a pair from the plane of single bits to bit `position` of the codes.
  static void add_bit(Codes plane, int position, int pair, Codes& first, Codes& second) {
    const auto mask = static_cast<uint8_t>(1U << position);
    first = first | plane.bits(position - 2 * pair, mask);
    second = second | plane.bits(position - 2 * pair - 1, mask);
  }
  // Number `index` of a unit's scales (kind 0) or biases (kind 1), which begin at `offset`.
  Vec16 number(const StoredBlock& block, size_t offset, int kind, int index) const {
    const std::byte* p = block.unit + offset + static_cast<size_t>(index) * layout->scales_bytes;
    switch (layout->scale_type) {
      case ScaleType::kF16:
        return Vec16::load_f16(p + vector * kLanes * 2);
      case ScaleType::kBF16:
        return Vec16::load_bf16(p + vector * kLanes * 2);
      case ScaleType::kF32:
        return Vec16::load(p + vector * kLanes * 4);
      case ScaleType::kI8:
        break;
    }
    const Vec16 factor = Vec16::load_f16(block.unit + (kind * kPanelRows + vector * kLanes) * 2);
    return factor * Vec16::load_i8(p + vector * kLanes);
  }
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
      CodeDot<CodeRange::kSignedByte> sums;
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

}  // namespace
