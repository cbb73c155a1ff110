// Kernel choice and row ranges of one weight.
#include "backend/cpu/linear.h"

#include <algorithm>

namespace mobilellm {
namespace {

struct RowKernel {
  DType dtype;
  void (*KernelTable::*kernel)(const DotRowsArgs&) noexcept;
};

// Formats that are multiplied where they lie.
constexpr RowKernel kRowKernels[] = {
    {DType::kF32, &KernelTable::dot_rows_f32},   {DType::kF16, &KernelTable::dot_rows_f16},
    {DType::kBF16, &KernelTable::dot_rows_bf16}, {DType::kQ8_0, &KernelTable::dot_rows_q8_0},
    {DType::kQ4_0, &KernelTable::dot_rows_q4_0}, {DType::kQ4_1, &KernelTable::dot_rows_q4_1},
};

// A task's rows as f32 should stay in the second-level cache while every token passes over them.
constexpr int64_t kScratchFloats = 64 * 1024;
constexpr int64_t kMinTaskRows = 8;
constexpr int64_t kMaxTaskRows = 64;

}  // namespace

Linear::Linear(LinearWeights weights, const KernelTable& kernels) : weights_(std::move(weights)), kernels_(&kernels) {
  row_bytes_ = data_row_bytes(weights_.matrix);
  row_kernel_ = kernels.dot_rows_f32;
  needs_decoding_ = true;
  if (weights_.matrix.bits != 0) return;
  for (const RowKernel& row : kRowKernels) {
    if (row.dtype == weights_.matrix.dtype) {
      row_kernel_ = kernels.*row.kernel;
      needs_decoding_ = false;
    }
  }
}

void Linear::set_panels(const PanelLayout& layout, const std::byte* panels) {
  layout_ = layout;
  panels_ = panels;
}

size_t Linear::scratch_bytes() const {
  if (uses_panels()) return kPanelScratchBytes;
  return static_cast<size_t>(std::max(kScratchFloats, int64_t{kPanelRows} * cols())) * sizeof(float);
}

int64_t Linear::task_rows(int n_tokens, int n_threads) const {
  if (n_tokens == 1 && (uses_panels() || !needs_decoding_)) {
    // A few tasks per thread, so that a thread that lost its core holds up little.
    const int64_t wanted = (rows() + 4 * n_threads - 1) / (4 * n_threads);
    return std::max<int64_t>(int64_t{kPanelRows},
                             (wanted + int64_t{kPanelRows} - 1) / int64_t{kPanelRows} * int64_t{kPanelRows});
  }
  if (uses_panels()) return int64_t{kPanelRows};
  return std::clamp(kScratchFloats / cols() / kMinTaskRows * kMinTaskRows, kMinTaskRows, kMaxTaskRows);
}

void Linear::run(int64_t row_begin, int64_t row_end, const Input& input, float* y, int64_t y_stride,
                 std::byte* scratch) const {
  if (uses_panels()) {
    run_panels(row_begin, row_end, input, y, y_stride, scratch);
  } else {
    run_in_place(row_begin, row_end, input, y, y_stride, reinterpret_cast<float*>(scratch));
  }
}

void Linear::run_panels(int64_t row_begin, int64_t row_end, const Input& input, float* y, int64_t y_stride,
                        std::byte* scratch) const {
  PanelProductArgs args{};
  args.layout = &layout_;
  args.panels = panels_ + static_cast<size_t>(row_begin / kPanelRows) * layout_.panel_bytes;
  args.n_rows = static_cast<int>(row_end - row_begin);
  args.n_panels = (args.n_rows + kPanelRows - 1) / kPanelRows;
  args.x = input.quantized;
  args.n_tokens = input.n_tokens;
  args.y = y;
  args.y_stride = y_stride;
  args.bias = weights_.bias.empty() ? nullptr : weights_.bias.data() + row_begin;
  args.scratch = scratch;
  kernels_->panel_product(args);
}

void Linear::run_in_place(int64_t row_begin, int64_t row_end, const Input& input, float* y, int64_t y_stride,
                          float* scratch) const {
  DotRowsArgs args{};
  args.n_rows = static_cast<int>(row_end - row_begin);
  args.n_cols = cols();
  args.x = input.x;
  args.x_stride = input.x_stride;
  args.n_tokens = input.n_tokens;
  args.y = y;
  args.y_stride = y_stride;
  args.bias = weights_.bias.empty() ? nullptr : weights_.bias.data() + row_begin;
  args.scratch = scratch;
  if (needs_decoding_) {
    weights_.matrix.codec->decode_rows(weights_.matrix, row_begin, row_end, scratch);
    args.weights = reinterpret_cast<const std::byte*>(scratch);
    args.row_bytes = static_cast<size_t>(cols()) * sizeof(float);
  } else {
    args.weights = weights_.matrix.data.data() + static_cast<size_t>(row_begin) * row_bytes_;
    args.row_bytes = row_bytes_;
  }
  row_kernel_(args);
}

}  // namespace mobilellm
