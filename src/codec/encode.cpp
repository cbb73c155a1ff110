// Allocation and checks around the codecs' encoders.
#include "codec/encode.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "base/thread_pool.h"
#include "codec/families.h"

namespace mobilellm {
namespace {

// Values per task of encode_matrix(): large enough to hide the hand-out, small enough to share evenly.
constexpr int64_t kTaskValues = 1 << 16;

void check_dimensions(int64_t rows, int64_t cols, const std::string& name) {
  if (rows >= 0 && cols >= 0) return;
  fail(ErrorCode::kInvalidArgument, "[codec] tensor '{}': got shape [{}, {}], expected no negative dimension",
       printable_name(name), rows, cols);
}

// Largest magnitude as an integer, whose order is that of floats and puts NaN and infinity above all.
uint32_t max_magnitude_bits(const float* values, int64_t n) {
  constexpr int kLanes = 16;
  int32_t lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    int32_t bits[kLanes];
    std::memcpy(bits, values + i, sizeof(bits));
    for (int k = 0; k < kLanes; ++k) {
      const int32_t magnitude = bits[k] & 0x7FFFFFFF;
      lanes[k] = magnitude > lanes[k] ? magnitude : lanes[k];
    }
  }
  for (; i < n; ++i) lanes[0] = std::max(lanes[0], static_cast<int32_t>(std::bit_cast<uint32_t>(values[i]) << 1 >> 1));
  return static_cast<uint32_t>(*std::max_element(lanes, lanes + kLanes));
}

[[noreturn]] void fail_value(const StoredMatrix& format, int64_t row, int64_t col, float value, float limit) {
  if (std::isfinite(value)) {
    fail(ErrorCode::kCorruptData,
         "[codec] tensor '{}': value at row {}, column {}: got {}, expected magnitudes up to {} for {}; store this "
         "tensor as BF16 or F32",
         printable_name(format.name), row, col, value, limit, format.codec->name());
  }
  fail(ErrorCode::kCorruptData,
       "[codec] tensor '{}': value at row {}, column {}: got {}, expected a finite number; the checkpoint is damaged, "
       "fetch it again",
       printable_name(format.name), row, col, value);
}

void check_values(const StoredMatrix& format, int64_t row_begin, int64_t n_rows, const float* values) {
  const float limit = format.codec->max_magnitude(format);
  const int64_t n = n_rows * format.cols;
  if (max_magnitude_bits(values, n) <= std::bit_cast<uint32_t>(limit)) return;
  for (int64_t i = 0; i < n; ++i) {
    if (std::fabs(values[i]) <= limit) continue;
    fail_value(format, row_begin + i / format.cols, i % format.cols, values[i], limit);
  }
}

void check_rows(const StoredMatrix& format, int64_t row_begin, int64_t row_end) {
  if (row_begin >= 0 && row_begin <= row_end && row_end <= format.rows) return;
  fail(ErrorCode::kInvalidArgument, "[codec] tensor '{}': got rows {} to {}, expected a range within 0 to {}",
       printable_name(format.name), row_begin, row_end, format.rows);
}

void check_importance(const StoredMatrix& format, std::span<const float> importance) {
  if (importance.empty()) return;
  if (importance.size() != static_cast<size_t>(format.cols)) {
    fail(ErrorCode::kInvalidArgument, "[codec] tensor '{}': got {} importances, expected one per column ({})",
         printable_name(format.name), importance.size(), format.cols);
  }
  for (size_t col = 0; col < importance.size(); ++col) {
    if (importance[col] >= 0.0F && std::isfinite(importance[col])) continue;
    fail(ErrorCode::kInvalidArgument,
         "[codec] tensor '{}': importance of column {}: got {}, expected a finite number >= 0",
         printable_name(format.name), col, importance[col]);
  }
}

uint8_t* part_of_row(std::span<std::byte> part, int64_t row, int64_t rows) {
  if (part.empty()) return nullptr;
  return reinterpret_cast<uint8_t*>(part.data()) + static_cast<int64_t>(part.size()) / rows * row;
}

void encode_checked(EncodedMatrix& out, int64_t row_begin, int64_t row_end, const float* values,
                    std::span<const float> importance) {
  const StoredMatrix& format = out.view();
  check_values(format, row_begin, row_end - row_begin, values);
  format.codec->encode_rows({format, row_end - row_begin, values, importance.empty() ? nullptr : importance.data(),
                             part_of_row(out.data(), row_begin, format.rows),
                             part_of_row(out.scales(), row_begin, format.rows),
                             part_of_row(out.biases(), row_begin, format.rows)});
}

}  // namespace

EncodedMatrix::EncodedMatrix(DType dtype, int64_t rows, int64_t cols, std::string name) {
  check_dimensions(rows, cols, name);
  matrix_.codec = find_codec(dtype);
  if (matrix_.codec == nullptr) {
    fail(ErrorCode::kInvalidArgument, "[codec] tensor '{}': got type {}, expected a floating or quantized type",
         printable_name(name), dtype_name(dtype));
  }
  const int64_t block = dtype_info(dtype).block_values;
  if (cols % block != 0) {
    fail(ErrorCode::kInvalidArgument,
         "[codec] tensor '{}': got rows of {} values, expected a multiple of {} for {}; {}", printable_name(name), cols,
         block, dtype_name(dtype),
         cols % 32 == 0 ? "use a type with blocks of 32 (Q4_0, Q5_0, Q8_0, IQ4_NL)" : "store it as F16 or BF16");
  }
  matrix_.rows = rows;
  matrix_.cols = cols;
  matrix_.dtype = dtype;
  matrix_.name = std::move(name);
  data_.resize(checked_mul(static_cast<size_t>(rows), row_bytes(dtype, cols), "bytes of a matrix"));
  matrix_.data = data_;
}

EncodedMatrix::EncodedMatrix(const QuantizationParams& params, DType scale_dtype, int64_t rows, int64_t cols,
                             std::string name) {
  check_quantization_params(params);
  check_dimensions(rows, cols, name);
  const bool is_affine = params.mode == QuantMode::kAffine;
  if (is_affine && scale_dtype != DType::kF32 && scale_dtype != DType::kF16 && scale_dtype != DType::kBF16) {
    fail(ErrorCode::kInvalidArgument, "[codec] tensor '{}': got {} scales, expected F32, F16 or BF16",
         printable_name(name), dtype_name(scale_dtype));
  }
  if (cols % params.group_size != 0) {
    fail(ErrorCode::kInvalidArgument,
         "[codec] tensor '{}': got rows of {} values, expected a multiple of the group size {}; {}",
         printable_name(name), cols, params.group_size,
         is_affine && cols % 32 == 0 ? (cols % 64 == 0 ? "use groups of 64 or 32" : "use groups of 32")
                                     : "store this tensor as F16 or BF16");
  }
  matrix_.codec = is_affine ? affine_codec() : mx_packed_codec(params.mode);
  matrix_.rows = rows;
  matrix_.cols = cols;
  matrix_.dtype = DType::kU32;
  matrix_.scale_dtype = is_affine ? scale_dtype : DType::kU8;
  matrix_.bits = params.bits;
  matrix_.group_size = params.group_size;
  matrix_.name = std::move(name);
  const auto groups = static_cast<size_t>(cols / params.group_size);
  const size_t n_groups = checked_mul(static_cast<size_t>(rows), groups, "groups of a matrix");
  const auto group_bytes = static_cast<size_t>(params.group_size * params.bits / 8);
  data_.resize(checked_mul(n_groups, group_bytes, "bytes of a matrix"));
  scales_.resize(checked_mul(n_groups, dtype_info(matrix_.scale_dtype).block_bytes, "bytes of scales"));
  if (is_affine) biases_.resize(scales_.size());
  matrix_.data = data_;
  matrix_.scales = scales_;
  matrix_.biases = biases_;
}

void encode_rows(EncodedMatrix& out, int64_t row_begin, int64_t row_end, const float* values,
                 std::span<const float> importance) {
  const StoredMatrix& format = out.view();
  check_rows(format, row_begin, row_end);
  check_importance(format, importance);
  if (row_begin == row_end || format.cols == 0) return;
  encode_checked(out, row_begin, row_end, values, importance);
}

void store_affine_rows(EncodedMatrix& out, int64_t row_begin, int64_t row_end, const uint8_t* codes,
                       const float* scales, const float* biases) {
  const StoredMatrix& format = out.view();
  check_rows(format, row_begin, row_end);
  if (format.codec != affine_codec()) {
    fail(ErrorCode::kInvalidArgument, "[codec] tensor '{}': got a matrix of format {}, expected affine groups",
         printable_name(format.name), format.codec->name());
  }
  if (row_begin == row_end || format.cols == 0) return;
  store_affine_groups(format, (row_end - row_begin) * (format.cols / format.group_size), codes, scales, biases,
                      part_of_row(out.data(), row_begin, format.rows),
                      part_of_row(out.scales(), row_begin, format.rows),
                      part_of_row(out.biases(), row_begin, format.rows));
}

void encode_matrix(EncodedMatrix& out, const float* values, std::span<const float> importance, ThreadPool& pool) {
  const StoredMatrix& format = out.view();
  check_importance(format, importance);
  if (format.rows == 0 || format.cols == 0) return;
  const int64_t task_rows = std::max<int64_t>(1, kTaskValues / format.cols);
  pool.run((format.rows + task_rows - 1) / task_rows, [&](int64_t task, int /*worker*/) {
    const int64_t begin = task * task_rows;
    const int64_t end = std::min(begin + task_rows, format.rows);
    encode_checked(out, begin, end, values + begin * format.cols, importance);
  });
}

}  // namespace mobilellm
