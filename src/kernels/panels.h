/// The compute layout of quantized weights, and the 8-bit form of activations that is multiplied with it.
///
/// Many storage formats become this one layout when a model is loaded: integer codes c with one scale d (and perhaps
/// one bias m) per group of a row, w = d c + m. Activations become unsigned bytes u with one scale s and zero point z
/// per strip of 64 columns, x = s (u - z). Then a row's product with a strip is s sum(d I) - s z sum(d S) + sum(m X)
/// over the groups in it, where I = sum c u and S = sum c are exact integers and X = sum x: the multiplications per
/// token beside those of bytes are one for every d and m, and two for the strip.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mobilellm {

/// Rows of a panel: two vectors of 16. Lane r of a vector belongs to one row, so nothing is ever summed across lanes.
inline constexpr int kPanelRows = 32;
inline constexpr int kLanes = 16;
/// Columns whose codes lie together in a panel.
inline constexpr int kBlockCols = 32;
/// Columns that share an activation scale: two blocks.
inline constexpr int kStripCols = 2 * kBlockCols;
/// Columns that share a factor of scales of kI8.
inline constexpr int kFactorCols = 256;

/// How a panel's scales and biases are stored; always exact. kI8: whole numbers in [-128, 127] times an f16 number per
/// row and unit.
enum class ScaleType : uint8_t { kF16, kBF16, kF32, kI8 };

/// How large the integers of the codes can be: what instructions with small sums can add up.
enum class CodeRange : uint8_t { kWithin16, kWithin32, kSignedByte };

/// Rows [32 p, 32 p + 32) are panel p; the last one is filled up with zeros. A panel is read from its begin to its end.
/// It is a sequence of units: one per group of columns (per block of 32 columns when groups have 16), or one per 256
/// columns with scales of kI8. A unit is
///   with kI8: the f16 factors of 32 rows for scales, then, if there are biases, those for biases
///   scales: 32 numbers, one per row, for every group of the unit (or for both halves of a block)
///   biases: as scales, if there are any
///   codes of each block of the unit
/// The codes of a block are words of 32 bits, one per row, in planes that hold some of the bits of every code:
///   8 bits: 8 times 32 words; byte j of word i is column 4 i + j
///   4 bits: 4 times 32 words; byte j of word i holds columns 8 i + j (low bits) and 8 i + 4 + j
///   2 bits: 2 times 32 words; byte j of word i holds columns 16 i + 4 q + j, q = 0 to 3 from its low bits up
///   1 bit:  32 words; bit q of byte j is column 4 q + j
/// Codes of 3, 5 and 6 bits are a plane of 2, 4 and 4 bits (the low ones), then one of 1, 1 and 2 bits. The integer of
/// a code of up to 4 bits is its entry in `table`, that of 5 and 6 bits is the code minus `zero`, that of 8 bits is the
/// code as a signed byte.
struct PanelLayout {
  int64_t rows = 0;
  int64_t cols = 0;      ///< A multiple of group; of 256 with scales of kI8.
  int64_t n_blocks = 0;  ///< Blocks of 32 columns, an even number, filled up with zeros (scales too).
  int bits = 4;          ///< 2, 3, 4, 5, 6 or 8
  int group = 32;        ///< Columns per scale: 32, 64 or 128; 16 with 3, 4 and 6 bits.
  ScaleType scale_type = ScaleType::kF16;
  bool has_bias = false;  ///< Only with group >= 32.
  float offset = 0;       ///< w = d (c + offset) + m; only with biases.
  int8_t zero = 0;        ///< Subtracted from codes of 5 and 6 bits.
  CodeRange code_range = CodeRange::kSignedByte;
  int8_t table[16] = {};  ///< Of codes of up to 4 bits.
  // Sizes in bytes, all but scales_bytes multiples of 64; see set_sizes().
  size_t scales_bytes = 0;   ///< Of 32 scales.
  size_t factors_bytes = 0;  ///< Of the factors of a unit.
  size_t biases_offset = 0;  ///< Of a unit's biases from its begin.
  size_t block_bytes = 0;    ///< Codes of a block.
  size_t header_bytes = 0;   ///< All of a unit but its codes.
  size_t unit_bytes = 0;
  size_t panel_bytes = 0;

  int64_t n_panels() const { return (rows + kPanelRows - 1) / kPanelRows; }
  int64_t n_groups() const { return cols / group; }
  int64_t n_strips() const { return n_blocks / 2; }
  int unit_blocks() const {
    if (scale_type == ScaleType::kI8) return kFactorCols / kBlockCols;
    return group <= kBlockCols ? 1 : group / kBlockCols;
  }
  /// Groups that begin in a unit.
  int unit_groups() const { return unit_blocks() * kBlockCols / group; }
  /// Fills in what follows from the fields above.
  void set_sizes() {
    const size_t n_kinds = has_bias ? 2 : 1;
    n_blocks = (cols + kStripCols - 1) / kStripCols * 2;
    scales_bytes = static_cast<size_t>(kPanelRows) * (scale_type == ScaleType::kF32  ? 4
                                                      : scale_type == ScaleType::kI8 ? 1
                                                                                     : 2);
    factors_bytes = scale_type == ScaleType::kI8 ? static_cast<size_t>(kPanelRows) * 2 * n_kinds : 0;
    biases_offset = factors_bytes + scales_bytes * static_cast<size_t>(unit_groups());
    block_bytes = static_cast<size_t>(kPanelRows) * kBlockCols * static_cast<size_t>(bits) / 8;
    header_bytes = factors_bytes + scales_bytes * static_cast<size_t>(unit_groups()) * n_kinds;
    unit_bytes = header_bytes + static_cast<size_t>(unit_blocks()) * block_bytes;
    panel_bytes = unit_bytes * static_cast<size_t>((n_blocks + unit_blocks() - 1) / unit_blocks());
  }
};

/// What belongs to a strip of activations beside its codes u: x = scale * u + offset.
struct StripNumbers {
  float scale;
  float offset;         ///< -scale * z
  float sum;            ///< of the values x of the strip
  float block_sums[2];  ///< of each of its blocks
};

/// Quantized activations [n_tokens] x [n_strips * 64 columns].
struct QuantizedRows {
  uint8_t* codes;         ///< [n_tokens][n_strips * 64]; columns beyond the row have the zero point.
  StripNumbers* numbers;  ///< [n_tokens][n_strips]
  int64_t n_strips;
};

/// x [n_tokens][n_cols] to `out`. A strip with a NaN or an infinity gets a NaN scale, which spreads to every product.
struct QuantizeRowsArgs {
  const float* x;
  int64_t x_stride;
  int n_tokens;
  int64_t n_cols;
  QuantizedRows out;
};

/// y[t * y_stride + r] = (W x_t)[r] (+ bias[r]) for the rows of n_panels consecutive panels.
struct PanelProductArgs {
  const PanelLayout* layout;
  const std::byte* panels;  ///< The first panel, at a multiple of 64 bytes.
  int n_panels;
  int n_rows;  ///< Rows of these panels that exist: at most 32 n_panels, and more than 32 (n_panels - 1).
  QuantizedRows x;
  int n_tokens;
  float* y;
  int64_t y_stride;
  const float* bias;   ///< [n_rows] or null
  std::byte* scratch;  ///< kPanelScratchBytes at a multiple of 64.
};

/// With many tokens, the codes, scales and sums of this many strips of a panel are spread out in scratch at a time,
/// so that they stay in the second-level cache while every token passes over them.
inline constexpr int kSpreadStrips = 32;
/// Per strip and row: up to four scales, two biases, the sum of all codes times scales, up to four sums of codes.
inline constexpr int kSpreadNumbers = 11;
inline constexpr size_t kSpreadHalfBytes =
    size_t{kSpreadStrips} * (kLanes * kStripCols + kSpreadNumbers * kLanes * sizeof(float));
/// Scratch of one call of panel_product.
inline constexpr size_t kPanelScratchBytes = 2 * kSpreadHalfBytes;

}  // namespace mobilellm
