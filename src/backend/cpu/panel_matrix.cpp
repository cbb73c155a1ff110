// Repacking: one row at a time, each into its lane of the panel.
#include "backend/cpu/panel_matrix.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "tensor/float_convert.h"

namespace mobilellm {
namespace {

// Words of 8 nibbles: columns 0 to 3 in the low halves of the bytes, 4 to 7 in the high ones.
void write_nibbles(const uint8_t* codes, int64_t n, std::byte* lane) {
  for (int64_t k = 0; k < n; k += 8) {
    uint64_t eight = 0;
    std::memcpy(&eight, codes + k, sizeof(eight));
    const auto word = static_cast<uint32_t>(eight) | static_cast<uint32_t>(eight >> 32) << 4;
    std::memcpy(lane + k / 8 * kPanelRows * 4, &word, sizeof(word));
  }
}

void write_bytes(const uint8_t* codes, int64_t n, std::byte* lane) {
  for (int64_t k = 0; k < n; k += 4) std::memcpy(lane + k * kPanelRows, codes + k, 4);
}

void write_scale(float value, ScaleType type, int64_t lane, std::byte* scales) {
  if (type == ScaleType::kF32) {
    std::memcpy(scales + lane * 4, &value, 4);
    return;
  }
  const uint16_t bits = type == ScaleType::kF16 ? float_to_fp16(value) : float_to_bf16(value);
  std::memcpy(scales + lane * 2, &bits, 2);
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
  layout.set_sizes();
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
    const int64_t unit_cols = int64_t{layout.unit_blocks()} * kBlockCols;
    int64_t group = 0;
    for (int64_t k = 0; k < layout.cols; k += unit_cols) {
      std::byte* unit = panel + static_cast<size_t>(k / unit_cols) * layout.unit_bytes;
      const int64_t unit_end = std::min(layout.cols, k + unit_cols);
      for (std::byte* scales = unit; group * layout.group < unit_end; ++group, scales += layout.scales_bytes) {
        write_scale(scratch.scales[static_cast<size_t>(group)], layout.scale_type, lane, scales);
        if (layout.has_bias) {
          write_scale(scratch.biases[static_cast<size_t>(group)], layout.scale_type, lane,
                      scales + layout.scales_bytes);
        }
      }
      std::byte* words = unit + layout.header_bytes + lane * 4;
      if (layout.bits == 4) {
        write_nibbles(scratch.codes.data() + k, unit_end - k, words);
      } else {
        write_bytes(scratch.codes.data() + k, unit_end - k, words);
      }
    }
  }
}

}  // namespace mobilellm
