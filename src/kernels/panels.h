/// The compute layout of quantized weights, and the 8-bit form of activations that is multiplied with it.
///
/// Many storage formats become this one layout when a model is loaded: integer codes c with one scale d (and perhaps
/// one bias m) per group of a row, w = d c + m. Activations become unsigned bytes u with one scale s and zero point z
/// per block of 32, x = s (u - z). Then a row's product with a block is s d (sum c u - z sum c) + m sum x: the sums in
/// the bracket are exact integers, so that the only roundings are those of the f32 sums over blocks, in rising order.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mobilellm {

/// Rows of a panel: two vectors of 16. Lane r of a vector belongs to one row, so nothing is ever summed across lanes.
inline constexpr int kPanelRows = 32;
inline constexpr int kLanes = 16;
/// Columns that share an activation scale.
inline constexpr int kBlockCols = 32;

/// How a panel's scales and biases are stored; always exact.
enum class ScaleType : uint8_t { kF16, kBF16, kF32 };

/// Rows [32 p, 32 p + 32) are panel p; the last one is filled up with zeros. A panel is read from its begin to its end.
/// It is a sequence of units, one per group of columns (per block of 32 columns when groups have 16):
///   scales: 32 numbers, one per row (two times 32, one per half of the block, when groups have 16)
///   biases: 32 numbers, if there are any
///   codes of each block of the unit: 4 bits: per 8 columns 32 words of 32 bits, one per row; the low nibbles of its
///   bytes
///     hold columns 0 to 3, the high ones columns 4 to 7; the code is an index into `table`.
///     8 bits: per 4 columns 32 words, one per row; a byte is the code
struct PanelLayout {
  int64_t rows = 0;
  int64_t cols = 0;      ///< A multiple of group.
  int64_t n_blocks = 0;  ///< Blocks of 32 columns, the last one filled up with zeros.
  int bits = 4;          ///< 4 or 8
  int group = 32;        ///< Columns per scale: 16, 32, 64 or 128.
  ScaleType scale_type = ScaleType::kF16;
  bool has_bias = false;         ///< Only with group >= 32.
  float offset = 0;              ///< w = d (c + offset) + m; only with biases.
  bool has_small_codes = false;  ///< Every code lies in [-16, 16].
  int8_t table[16] = {};         ///< Of 4-bit codes.
  // Sizes in bytes, all multiples of 64; see set_sizes().
  size_t scales_bytes = 0;  ///< Of 32 scales.
  size_t block_bytes = 0;   ///< Codes of a block.
  size_t header_bytes = 0;  ///< Scales and biases of a unit.
  size_t unit_bytes = 0;
  size_t panel_bytes = 0;

  int64_t n_panels() const { return (rows + kPanelRows - 1) / kPanelRows; }
  int64_t n_groups() const { return cols / group; }
  int unit_blocks() const { return group <= kBlockCols ? 1 : group / kBlockCols; }
  /// Fills in what follows from the fields above.
  void set_sizes() {
    const int n_scales = group < kBlockCols ? kBlockCols / group : 1;
    n_blocks = (cols + kBlockCols - 1) / kBlockCols;
    scales_bytes = static_cast<size_t>(kPanelRows) * (scale_type == ScaleType::kF32 ? 4 : 2);
    block_bytes = static_cast<size_t>(kPanelRows) * kBlockCols * static_cast<size_t>(bits) / 8;
    header_bytes = scales_bytes * static_cast<size_t>(n_scales + (has_bias ? 1 : 0));
    unit_bytes = header_bytes + static_cast<size_t>(unit_blocks()) * block_bytes;
    panel_bytes = unit_bytes * static_cast<size_t>((n_blocks + unit_blocks() - 1) / unit_blocks());
  }
};

/// Quantized activations [n_tokens] x [n_blocks * 32 columns].
struct QuantizedRows {
  uint8_t* codes;  ///< [n_tokens][n_blocks * 32]; columns beyond the row have the zero point.
  float* scales;   ///< [n_tokens][n_blocks]
  int32_t* zeros;  ///< [n_tokens][n_blocks] -z modulo 2^16: the low half of a pair of 16-bit numbers
  float* sums;     ///< [n_tokens][n_blocks] sum of the block's values s (u - z)
  int64_t n_blocks;
};

/// x [n_tokens][n_cols] to `out`. A block with a NaN or an infinity gets a NaN scale, which spreads to every product.
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
  int n_rows;  ///< Rows of these panels that exist: at most 16 n_panels, and more than 16 (n_panels - 1).
  QuantizedRows x;
  int n_tokens;
  float* y;
  int64_t y_stride;
  const float* bias;   ///< [n_rows] or null
  std::byte* scratch;  ///< kPanelScratchBytes at a multiple of 64.
};

/// With many tokens, the codes, scales and sums of this many blocks of a panel are spread out in scratch at a time,
/// so that they stay in the second-level cache while every token passes over them.
inline constexpr int kSpreadBlocks = 64;
inline constexpr size_t kSpreadHalfBytes = size_t{kSpreadBlocks} * (kLanes * kBlockCols + 5 * kLanes * sizeof(float));
/// Scratch of one call of panel_product.
inline constexpr size_t kPanelScratchBytes = 2 * kSpreadHalfBytes;

}  // namespace mobilellm
