/// What a conversion asks when it is to quantize: how each matrix shall be stored, and its rows in that form.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>

#include "codec/encode.h"
#include "model/tensor_table.h"

namespace mobilellm {

/// Packed groups, or GGUF blocks.
struct MatrixStorage {
  DType block_type = DType::kU32;  ///< kU32: packed groups.
  QuantizationParams params;       ///< Of packed groups.
  DType scale_dtype = DType::kF32;

  EncodedMatrix allocate(int64_t rows, int64_t cols, const std::string& name) const {
    if (block_type != DType::kU32) return EncodedMatrix(block_type, rows, cols, name);
    return EncodedMatrix(params, scale_dtype, rows, cols, name);
  }
};

class MatrixQuantizer {
 public:
  virtual ~MatrixQuantizer() = default;
  /// How the matrix of this role becomes [rows, cols] of the target; nothing stores it as the conversion would.
  /// `dtype` is the float type that it would have. Asked for every matrix before any is encoded.
  virtual std::optional<MatrixStorage> choose_storage(const TensorEntry& entry, DType dtype) = 0;
  /// Encodes rows [row_begin, row_end) of the target from their values. Called in rising order of rows; the matrices
  /// come one after the other.
  virtual void encode(const TensorEntry& entry, int64_t row_begin, int64_t row_end, const float* values,
                      EncodedMatrix& out) = 0;
  /// Does tasks [0, n_tasks), which are independent of each other, perhaps on several threads: reading rows is shared
  /// in this way.
  virtual void share(int64_t n_tasks, const std::function<void(int64_t)>& task) {
    for (int64_t i = 0; i < n_tasks; ++i) task(i);
  }

 protected:
  MatrixQuantizer() = default;
  MatrixQuantizer(const MatrixQuantizer&) = default;
  MatrixQuantizer& operator=(const MatrixQuantizer&) = default;
};

}  // namespace mobilellm
