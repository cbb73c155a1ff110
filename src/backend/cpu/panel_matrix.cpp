// Repacking: one row at a time, each into its lane of the panel.
#include "backend/cpu/panel_matrix.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "tensor/float_convert.h"

namespace mobilellm {
namespace {

size_t round_up(size_t n) { return (n + 63) / 64 * 64; }

size_t scale_bytes(ScaleType type) { return type == ScaleType::kF32 ? 4 : 2; }

// Words of 8 nibbles: columns 0 to 3 in the low halves of the bytes, 4 to 7 in the high ones.
void write_nibbles(const uint8_t* codes, int64_t cols, std::byte* lane) {
  int64_t k = 0;
  for (; k + 8 <= cols; k += 8) {
    uint64_t eight = 0;
    std::memcpy(&eight, codes + k, sizeof(eight));
    const auto word = static_cast<uint32_t>(eight) | static_cast<uint32_t>(eight >> 32) << 4;
    std::memcpy(lane + k * 8, &word, sizeof(word));
  }
}

void write_bytes(const uint8_t* codes, int64_t cols, std::byte* lane) {
  for (int64_t k = 0; k + 4 <= cols; k += 4) std::memcpy(lane + k * 16, codes + k, 4);
}

void write_scales(const std::vector<float>& values, int64_t n, ScaleType type, std::byte* lane) {
  for (int64_t g = 0; g < n; ++g) {
    const float value = values[static_cast<size_t>(g)];
    if (type == ScaleType::kF32) {
      std::memcpy(lane + g * kPanelRows * 4, &value, 4);
      continue;
    }
    const uint16_t bits = type == ScaleType::kF16 ? float_to_fp16(value) : float_to_bf16(value);
    std::memcpy(lane + g * kPanelRows * 2, &bits, 2);
  }
}

}  // namespace

std::optional<PanelLayout> panel_layout(const StoredMatrix& matrix) {
  IntegerForm form;
  if (matrix.codec == nullptr || !matrix.codec->integer_form(matrix, form)) return std::nullopt;
  // Packed words hold 8 columns; every format's blocks are multiples of that.
  if (matrix.rows == 0 || matrix.cols % 8 != 0 || matrix.cols % form.group != 0) return std::nullopt;
  PanelLayout layout;
  layout.rows = matrix.rows;
  layout.cols = matrix.cols;
  layout.n_blocks = (matrix.cols + kBlockCols - 1) / kBlockCols;
  layout.bits = form.bits;
  layout.group = form.group;
  layout.has_bias = form.has_biases;
  layout.offset = static_cast<float>(form.offset);
  layout.scale_type = form.scale_dtype == DType::kF16    ? ScaleType::kF16
                      : form.scale_dtype == DType::kBF16 ? ScaleType::kBF16
                                                         : ScaleType::kF32;
  std::copy(form.table.begin(), form.table.end(), layout.table);
  layout.has_small_codes = form.bits == 4 && std::all_of(form.table.begin(), form.table.end(),
                                                         [](int code) { return code >= -16 && code <= 16; });
  const auto padded_cols = static_cast<size_t>(layout.n_blocks) * kBlockCols;
  // A last block that is only partly there reads the scales of a whole one.
  const size_t n_groups =
      std::max<size_t>(padded_cols / static_cast<size_t>(layout.group), static_cast<size_t>(layout.n_groups()));
  const size_t scales = round_up(n_groups * kPanelRows * scale_bytes(layout.scale_type));
  layout.scales_offset = padded_cols * kPanelRows * static_cast<size_t>(layout.bits) / 8;
  layout.biases_offset = layout.scales_offset + scales;
  layout.panel_bytes = layout.biases_offset + (layout.has_bias ? scales : 0);
  return layout;
}

void pack_panels(const StoredMatrix& matrix, const PanelLayout& layout, int64_t begin, int64_t end, std::byte* panels,
                 PackScratch& scratch) {
  scratch.codes.resize(static_cast<size_t>(layout.cols));
  scratch.scales.resize(static_cast<size_t>(layout.n_groups()));
  scratch.biases.resize(static_cast<size_t>(layout.n_groups()));
  for (int64_t row = begin * kPanelRows; row < std::min(end * kPanelRows, layout.rows); ++row) {
    std::byte* panel = panels + static_cast<size_t>(row / kPanelRows) * layout.panel_bytes;
    const int64_t lane = row % kPanelRows;
    matrix.codec->read_integers(matrix, row, scratch.codes.data(), scratch.scales.data(), scratch.biases.data());
    if (layout.bits == 4) {
      write_nibbles(scratch.codes.data(), layout.cols, panel + lane * 4);
    } else {
      write_bytes(scratch.codes.data(), layout.cols, panel + lane * 4);
    }
    const int64_t scale_lane = lane * static_cast<int64_t>(scale_bytes(layout.scale_type));
    write_scales(scratch.scales, layout.n_groups(), layout.scale_type, panel + layout.scales_offset + scale_lane);
    if (layout.has_bias) {
      write_scales(scratch.biases, layout.n_groups(), layout.scale_type, panel + layout.biases_offset + scale_lane);
    }
  }
}

}  // namespace mobilellm
