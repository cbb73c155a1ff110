/// How each matrix is to be stored: one setting for all, exceptions by name, or the least predicted loss under a limit
/// of bits.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "convert/matrix_quantizer.h"
#include "model/tensor_table.h"

namespace mobilellm {

/// The storage that comes nearest to `wanted` for rows of `cols` values: a smaller group, or a GGUF type with smaller
/// blocks; nothing when none divides them.
std::optional<MatrixStorage> fit_storage(const MatrixStorage& wanted, int64_t cols);

/// "affine 4 bits, group 64" or "Q4_K".
std::string storage_name(const MatrixStorage& storage);

/// Bits of a matrix in this storage, scales included. `cols` must divide.
double stored_bits(const MatrixStorage& storage, int64_t rows, int64_t cols);

struct PlannedStorage {
  std::optional<MatrixStorage> storage;  ///< Nothing: stays float.
  double predicted_loss = 0;             ///< As in QuantizedMatrix.
  double rounding_loss = 0;
};
/// By role and layer.
using StoragePlan = std::map<std::pair<TensorRole, int>, PlannedStorage>;

}  // namespace mobilellm
