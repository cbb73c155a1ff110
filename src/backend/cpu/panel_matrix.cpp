// Repacking: one row at a time, each into its lane of the panel.
#include "backend/cpu/panel_matrix.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "tensor/float_convert.h"

namespace mobilellm {
namespace {

// A plane of kPlaneBits bits of 32 codes, bits `shift` and up: one lane's words.
template <int kPlaneBits>
std::byte* write_plane(const uint8_t* codes, int shift, std::byte* lane) {
  constexpr int kQuads = 8 / kPlaneBits;  // of columns in a word
  constexpr uint32_t kMask = 0x01010101U * ((1U << kPlaneBits) - 1);
  for (int word = 0; word < kBlockCols / 4 / kQuads; ++word) {
    uint32_t packed = 0;
    for (int quad = 0; quad < kQuads; ++quad) {
      uint32_t four = 0;
      std::memcpy(&four, codes + (word * kQuads + quad) * 4, sizeof(four));
      packed |= ((four >> shift) & kMask) << (quad * kPlaneBits);
    }
    std::memcpy(lane, &packed, sizeof(packed));
    lane += kPanelRows * 4;
  }
  return lane;
}

void write_block(const uint8_t* codes, int bits, std::byte* lane) {
  switch (bits) {
    case 2:
      write_plane<2>(codes, 0, lane);
      break;
    case 3:
      write_plane<1>(codes, 2, write_plane<2>(codes, 0, lane));
      break;
    case 4:
      write_plane<4>(codes, 0, lane);
      break;
    case 5:
      write_plane<1>(codes, 4, write_plane<4>(codes, 0, lane));
      break;
    case 6:
      write_plane<2>(codes, 4, write_plane<4>(codes, 0, lane));
      break;
    default:
      for (int64_t k = 0; k < kBlockCols; k += 4) std::memcpy(lane + k * kPanelRows, codes + k, 4);
  }
}

void write_scale(float value, ScaleType type, int64_t lane, std::byte* scales) {
  switch (type) {
    case ScaleType::kF32:
      std::memcpy(scales + lane * 4, &value, 4);
      return;
    case ScaleType::kI8:
      scales[lane] = static_cast<std::byte>(static_cast<int8_t>(value));
      return;
    case ScaleType::kF16:
    case ScaleType::kBF16:
      break;
  }
  const uint16_t bits = type == ScaleType::kF16 ? float_to_fp16(value) : float_to_bf16(value);
  std::memcpy(scales + lane * 2, &bits, 2);
}

ScaleType scale_type_of(DType dtype) {
  switch (dtype) {
    case DType::kF16:
      return ScaleType::kF16;
    case DType::kBF16:
      return ScaleType::kBF16;
    case DType::kI8:
      return ScaleType::kI8;
    default:
      return ScaleType::kF32;
  }
}

CodeRange code_range_of(const IntegerForm& form) {
  if (form.bits == 6) return CodeRange::kWithin32;
  if (form.bits == 8) return CodeRange::kSignedByte;
  if (form.bits == 5) return CodeRange::kWithin16;
  const bool is_small =
      std::all_of(form.table.begin(), form.table.end(), [](int code) { return code >= -16 && code <= 16; });
  return is_small ? CodeRange::kWithin16 : CodeRange::kSignedByte;
}

}  // namespace

std::optional<PanelLayout> panel_layout(const StoredMatrix& matrix) {
  IntegerForm form;
  if (matrix.codec == nullptr || !matrix.codec->integer_form(matrix, form)) return std::nullopt;
  // Packed words hold 8 columns; every format's blocks are multiples of that.
  if (matrix.rows == 0 || matrix.cols % 8 != 0 || matrix.cols % form.group != 0) return std::nullopt;
  // What panel_product() has kernels for.
  const bool has_small_groups = form.bits == 3 || form.bits == 4 || form.bits == 6;
  if (form.group < kBlockCols && (!has_small_groups || form.has_biases)) return std::nullopt;
  PanelLayout layout;
  layout.rows = matrix.rows;
  layout.cols = matrix.cols;
  layout.bits = form.bits;
  layout.group = form.group;
  layout.has_bias = form.has_biases;
  layout.offset = static_cast<float>(form.offset);
  layout.zero = static_cast<int8_t>(form.zero);
  layout.scale_type = scale_type_of(form.scale_dtype);
  std::copy(form.table.begin(), form.table.end(), layout.table);
  layout.code_range = code_range_of(form);
  layout.set_sizes();
  return layout;
}

void pack_panels(const StoredMatrix& matrix, const PanelLayout& layout, int64_t begin, int64_t end, std::byte* panels,
                 PackScratch& scratch) {
  const int64_t unit_cols = int64_t{layout.unit_blocks()} * kBlockCols;
  const int64_t n_units = (layout.n_blocks + layout.unit_blocks() - 1) / layout.unit_blocks();
  scratch.codes.assign(static_cast<size_t>(layout.n_blocks) * kBlockCols, 0);
  scratch.scales.resize(static_cast<size_t>(layout.n_groups()));
  scratch.biases.resize(scratch.scales.size());
  scratch.factors.resize(static_cast<size_t>(n_units));
  scratch.bias_factors.resize(scratch.factors.size());
  const IntegerRow source = {scratch.codes.data(), scratch.scales.data(), scratch.biases.data(), scratch.factors.data(),
                             scratch.bias_factors.data()};
  for (int64_t row = begin * kPanelRows; row < std::min(end * kPanelRows, layout.rows); ++row) {
    std::byte* unit = panels + static_cast<size_t>(row / kPanelRows) * layout.panel_bytes;
    const int64_t lane = row % kPanelRows;
    matrix.codec->read_integers(matrix, row, source);
    int64_t group = 0;
    for (int64_t u = 0; u < n_units; ++u, unit += layout.unit_bytes) {
      const int64_t k = u * unit_cols;
      if (layout.scale_type == ScaleType::kI8) {
        write_scale(source.outer_scales[u], ScaleType::kF16, lane, unit);
        if (layout.has_bias) write_scale(source.outer_biases[u], ScaleType::kF16, kPanelRows + lane, unit);
      }
      std::byte* scales = unit + layout.factors_bytes;
      std::byte* biases = unit + layout.biases_offset;
      for (; group * layout.group < std::min(layout.cols, k + unit_cols); ++group) {
        write_scale(source.scales[group], layout.scale_type, lane, scales);
        if (layout.has_bias) write_scale(source.biases[group], layout.scale_type, lane, biases);
        scales += layout.scales_bytes;
        biases += layout.scales_bytes;
      }
      std::byte* block = unit + layout.header_bytes + lane * 4;
      for (int64_t at = k; at < std::min(layout.n_blocks * kBlockCols, k + unit_cols); at += kBlockCols) {
        write_block(source.codes + at, layout.bits, block);
        block += layout.block_bytes;
      }
    }
  }
}

}  // namespace mobilellm
