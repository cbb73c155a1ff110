/// Rows of numbers as F32, F16 or BF16, with everything checked that would spoil a file silently.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tensor/dtype.h"

namespace mobilellm {

/// F32, F16 and BF16.
bool is_float_dtype(DType dtype);

/// Appends the values in a float type. Throws kCorruptData naming the tensor for NaN and infinities, kUnsupported for
/// values that the type cannot hold.
void append_floats(std::span<const float> values, DType dtype, const std::string& name, std::vector<std::byte>& out);

/// Throws kCorruptData naming the tensor when stored floats hold a NaN or an infinity.
void check_finite(std::span<const std::byte> data, DType dtype, const std::string& name);

/// Whether every value is the same in this type.
bool fits_exactly(std::span<const float> values, DType dtype);

}  // namespace mobilellm
