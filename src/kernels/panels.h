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

/// Rows of a panel. Lane r of every vector belongs to row r, so nothing is ever summed across lanes.
inline constexpr int kPanelRows = 16;
/// Columns that share an activation scale.
inline constexpr int kBlockCols = 32;

/// How a panel's scales and biases are stored; always exact.
enum class ScaleType : uint8_t { kF16, kBF16, kF32 };

/// Rows [16 p, 16 p + 16) are panel p; the last one is filled up with zeros. A panel is its codes, then scales, then
/// biases, each part and the panel itself a multiple of 64 bytes:
///   codes, 4 bits: per 8 columns 16 words of 32 bits, one per row; the low nibbles of its bytes hold columns 0 to 3,
///   the
///     high ones columns 4 to 7; the code is an index into `table`
///   codes, 8 bits: per 4 columns 16 words, one per row; a byte is the code
///   scales, biases: per group 16 numbers
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
  size_t scales_offset = 0;
  size_t biases_offset = 0;
  size_t panel_bytes = 0;

  int64_t n_panels() const { return (rows + kPanelRows - 1) / kPanelRows; }
  int64_t n_groups() const { return (cols + group - 1) / group; }
};

/// Quantized activations [n_tokens] x [n_blocks * 32 columns].
struct QuantizedRows {
  uint8_t* codes;  ///< [n_tokens][n_blocks * 32]; columns beyond the row have the zero point.
  float* scales;   ///< [n_tokens][n_blocks]
  int32_t* zeros;  ///< [n_tokens][n_blocks] zero points, 0..255
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
  std::byte* scratch;  ///< panel_scratch_bytes(layout), at a multiple of 64; used when there are many tokens.
};

/// Of a worker: two panels with codes, scales and sums spread out.
static inline size_t panel_scratch_bytes(const PanelLayout& layout) {
  return static_cast<size_t>(layout.n_blocks) * 2 * (kPanelRows * kBlockCols + 5 * kPanelRows * sizeof(float));
}

}  // namespace mobilellm
