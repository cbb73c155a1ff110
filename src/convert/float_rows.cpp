// Casting and checking of float values.
#include "convert/float_rows.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "base/error.h"
#include "tensor/float_convert.h"
#include "tensor/tensor_view.h"

namespace mobilellm {
namespace {

[[noreturn]] void fail_not_finite(const std::string& name, size_t index) {
  fail(ErrorCode::kCorruptData,
       "[convert] tensor '{}': value {} is NaN or infinite, so the model is broken; download or train it again",
       printable_name(name), index);
}

template <typename T>
void append_raw(std::vector<std::byte>& out, T value) {
  const auto* bytes = reinterpret_cast<const std::byte*>(&value);
  out.insert(out.end(), bytes, bytes + sizeof(T));
}

// Index of the first element whose exponent bits are all ones; `n` when there is none.
template <typename T>
size_t find_not_finite(std::span<const std::byte> data, T exponent_mask) {
  const size_t n = data.size() / sizeof(T);
  constexpr size_t kRun = 4096;  // A run without branches, so that the compiler vectorises it.
  for (size_t begin = 0; begin < n; begin += kRun) {
    const size_t end = std::min(n, begin + kRun);
    T found = 0;
    for (size_t i = begin; i < end; ++i) {
      T bits;
      std::memcpy(&bits, data.data() + i * sizeof(T), sizeof(T));
      found = static_cast<T>(found | static_cast<T>((bits & exponent_mask) == exponent_mask));
    }
    if (found == 0) continue;
    for (size_t i = begin; i < end; ++i) {
      T bits;
      std::memcpy(&bits, data.data() + i * sizeof(T), sizeof(T));
      if ((bits & exponent_mask) == exponent_mask) return i;
    }
  }
  return n;
}

}  // namespace

bool is_float_dtype(DType dtype) { return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16; }

void append_floats(std::span<const float> values, DType dtype, const std::string& name, std::vector<std::byte>& out) {
  check_finite(std::as_bytes(values), DType::kF32, name);
  switch (dtype) {
    case DType::kF32: {
      const auto bytes = std::as_bytes(values);
      out.insert(out.end(), bytes.begin(), bytes.end());
      return;
    }
    case DType::kBF16:
      for (const float value : values) append_raw(out, float_to_bf16(value));
      break;
    case DType::kF16:
      for (const float value : values) append_raw(out, float_to_fp16(value));
      break;
    default:
      fail(ErrorCode::kInternal, "[convert] {} is no float type", dtype_name(dtype));
  }
  const auto added = std::span(out).last(values.size() * dtype_info(dtype).block_bytes);
  const size_t index =
      dtype == DType::kF16 ? find_not_finite<uint16_t>(added, 0x7C00) : find_not_finite<uint16_t>(added, 0x7F80);
  if (index < values.size()) {
    fail(ErrorCode::kUnsupported, "[convert] tensor '{}': value {} ({}) is too large for {}; choose another --dtype",
         printable_name(name), index, values[index], dtype_name(dtype));
  }
}

void check_finite(std::span<const std::byte> data, DType dtype, const std::string& name) {
  const size_t n = data.size() / dtype_info(dtype).block_bytes;
  size_t index;
  switch (dtype) {
    case DType::kF32:
      index = find_not_finite<uint32_t>(data, 0x7F800000);
      break;
    case DType::kF16:
      index = find_not_finite<uint16_t>(data, 0x7C00);
      break;
    case DType::kBF16:
      index = find_not_finite<uint16_t>(data, 0x7F80);
      break;
    default:
      fail(ErrorCode::kInternal, "[convert] {} is no float type", dtype_name(dtype));
  }
  if (index < n) fail_not_finite(name, index);
}

bool fits_exactly(std::span<const float> values, DType dtype) {
  if (dtype == DType::kF32) return true;
  for (const float value : values) {
    const float back = dtype == DType::kF16 ? fp16_to_float(float_to_fp16(value)) : bf16_to_float(float_to_bf16(value));
    if (std::bit_cast<uint32_t>(back) != std::bit_cast<uint32_t>(value)) return false;
  }
  return true;
}

}  // namespace mobilellm
