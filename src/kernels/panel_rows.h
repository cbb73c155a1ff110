// Rows of panels as the products read them: as they are stored, or spread out in scratch; included by panel_product.h.
#include "kernels/panels.h"

namespace {

using mobilellm::kBlockCols;
using mobilellm::kLanes;
using mobilellm::kPanelRows;
using mobilellm::kSpreadHalfBytes;
using mobilellm::kSpreadNumbers;
using mobilellm::kSpreadStrips;
using mobilellm::kStripCols;
using mobilellm::PanelLayout;
using mobilellm::ScaleType;

constexpr int kStepsPerStrip = kStripCols / 4;
constexpr int kPairsPerStrip = kStepsPerStrip / 2;

struct StripRange {
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

// The two blocks of a strip.
struct StoredStrip {
  StoredBlock blocks[2];
};

// 16 rows of a panel as it is stored: codes are unpacked in registers. kParts scales belong to a strip, those of the
// groups of 16, 32, or of 64 and more columns.
template <int kBits, int kParts>
struct StoredRows {
  const std::byte* panel;
  const PanelLayout* layout;
  CodeTable table;
  Codes zero;
  int vector;
  int log2_unit;
  int log2_group;  // in blocks, from groups of one block on

  StoredRows(const PanelLayout& l, const std::byte* p, int v)
      : panel(p),
        layout(&l),
        table(CodeTable::load(l.table)),
        zero(Codes::fill(l.zero)),
        vector(v),
        log2_unit(__builtin_ctz(static_cast<unsigned>(l.unit_blocks()))),
        log2_group(kParts == 4 ? 0 : __builtin_ctz(static_cast<unsigned>(l.group / kBlockCols))) {}

  StoredStrip at(int64_t strip) const { return {{block_at(2 * strip), block_at(2 * strip + 1)}}; }
  StoredBlock block_at(int64_t block) const {
    const std::byte* unit = panel + (block >> log2_unit) * static_cast<int64_t>(layout->unit_bytes);
    const int64_t index = block & ((int64_t{1} << log2_unit) - 1);
    return {unit + layout->header_bytes + index * static_cast<int64_t>(layout->block_bytes), unit,
            static_cast<int>(index)};
  }
  // Integers of steps 2 * strip_pair and 2 * strip_pair + 1 (4 columns each) of a strip.
  void load_pair(const StoredStrip& strip, int strip_pair, Codes& first, Codes& second) const {
    constexpr int kPlaneWord = kPanelRows * 4;
    const std::byte* p = strip.blocks[strip_pair / (kPairsPerStrip / 2)].codes + vector * 64;
    const int pair = strip_pair % (kPairsPerStrip / 2);
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
  Vec16 scale(const StoredStrip& strip, int part) const {
    const StoredBlock& block = strip.blocks[kParts == 4 ? part / 2 : part];
    return number(block, layout->factors_bytes, 0,
                  kParts == 4 ? 2 * block.index + part % 2 : block.index >> log2_group);
  }
  // Not with four parts.
  Vec16 bias(const StoredStrip& strip, int part) const {
    const StoredBlock& block = strip.blocks[part];
    const Vec16 bias = number(block, layout->biases_offset, 1, block.index >> log2_group);
    return Vec16::fma(Vec16::set1(layout->offset), scale(strip, part), bias);
  }
  static constexpr bool kHasCodeSums = false;
  CodeSums code_sums(const StoredStrip& /*strip*/, int /*part*/) const { return CodeSums{}; }
  Vec16 scaled_sum(const StoredStrip& /*strip*/) const { return Vec16::zero(); }

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

// Adds part `part` of a strip to sum(d S), in the order that every product uses.
inline Vec16 add_scaled(Vec16 scale, Vec16 sum, int part, Vec16 total) {
  return part == 0 ? scale * sum : Vec16::fma(scale, sum, total);
}

// Some strips of 16 rows spread out in scratch: codes of 8 bits, then per strip the numbers that kSpreadNumbers counts.
struct SpreadRows {
  std::byte* codes;
  float* numbers;

  static constexpr int kBiases = 4;
  static constexpr int kScaledSum = 6;
  static constexpr int kCodeSums = 7;

  SpreadRows(std::byte* scratch, int vector)
      : codes(scratch + static_cast<size_t>(vector) * kSpreadHalfBytes),
        numbers(reinterpret_cast<float*>(codes + size_t{kSpreadStrips} * kLanes * kStripCols)) {}

  static int64_t at(int64_t strip) { return strip; }
  float* number(int64_t strip, int index) const { return numbers + (strip * kSpreadNumbers + index) * kLanes; }
  std::byte* step(int64_t strip, int index) const { return codes + (strip * kStepsPerStrip + index) * 64; }
  void load_pair(int64_t strip, int pair, Codes& first, Codes& second) const {
    first = Codes::load(step(strip, 2 * pair));
    second = Codes::load(step(strip, 2 * pair + 1));
  }
  Vec16 scale(int64_t strip, int part) const { return Vec16::load(number(strip, part)); }
  Vec16 bias(int64_t strip, int part) const { return Vec16::load(number(strip, kBiases + part)); }
  Vec16 scaled_sum(int64_t strip) const { return Vec16::load(number(strip, kScaledSum)); }
  static constexpr bool kHasCodeSums = true;
  CodeSums code_sums(int64_t strip, int part) const { return CodeSums::load(number(strip, kCodeSums + part)); }
};

template <int kBits, int kParts>
void spread(const StoredRows<kBits, kParts>& in, StripRange range, const SpreadRows& out) {
  for (int64_t index = range.begin; index < range.end; ++index) {
    const StoredStrip strip = in.at(index);
    const int64_t to = index - range.begin;
    Vec16 scaled_sum = Vec16::zero();
    for (int part = 0; part < kParts; ++part) {
      constexpr int kPairs = kPairsPerStrip / kParts;
      CodeDot<CodeRange::kSignedByte> sums;
      sums.clear();
      for (int pair = part * kPairs; pair < (part + 1) * kPairs; ++pair) {
        Codes first;
        Codes second;
        in.load_pair(strip, pair, first, second);
        first.store(out.step(to, 2 * pair));
        second.store(out.step(to, 2 * pair + 1));
        sums.add_ones(first);
        sums.add_ones(second);
        sums.flush();
      }
      const Vec16 scale = in.scale(strip, part);
      scale.store(out.number(to, part));
      sums.code_sums().store(out.number(to, SpreadRows::kCodeSums + part));
      scaled_sum = add_scaled(scale, sums.code_sums().as_floats(), part, scaled_sum);
      if constexpr (kParts < 4) {
        if (in.layout->has_bias) in.bias(strip, part).store(out.number(to, SpreadRows::kBiases + part));
      }
    }
    scaled_sum.store(out.number(to, SpreadRows::kScaledSum));
  }
}

}  // namespace
