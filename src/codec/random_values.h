/// Random weights in any storage format: valid bits and a chosen spread, for measurements that need no real model.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "codec/quantization_config.h"
#include "tensor/dtype.h"

namespace mobilellm {

/// How the matrices of a model are stored: a scalar or GGUF block type, or packed groups.
struct StorageFormat {
  std::string name;           ///< "q4_0", "bf16", "affine4g64" ...
  DType dtype = DType::kF32;  ///< kU32 for packed groups.
  std::optional<QuantizationParams> groups;

  int64_t block_values() const;  ///< A row is a multiple of this many values.
  size_t data_bytes(int64_t rows, int64_t cols) const;
  size_t scale_bytes(int64_t rows, int64_t cols) const;  ///< Of the scales; biases (affine only) take as many.
};

/// A format by name: a codec with a type of its own ("f32", "bf16", "q4_0", "q6_k" ...), "affineBgG" (B bits, groups of
/// G; "affine4" has groups of 64), "mxfp4", "nvfp4", "mxfp8"; "q4" is q4_0 and "q8" is q8_0.
/// Throws kInvalidArgument listing the formats.
StorageFormat parse_storage_format(std::string_view name);

/// Source of random stored values with mean about 0 and standard deviation `deviation`. It keeps a pool of normal
/// numbers as the codec encodes them and copies runs of it, which is as fast as memory; so values repeat at random
/// distances.
class RandomValues {
 public:
  RandomValues(const StorageFormat& format, float deviation, uint64_t seed);

  /// Fills whole blocks or words. The bytes depend on seed and stream alone; any thread.
  void fill_data(std::span<std::byte> out, uint64_t stream) const;
  /// Fills the scales, and the biases that belong to them (empty except for affine).
  void fill_scales(std::span<std::byte> scales, std::span<std::byte> biases, uint64_t stream) const;

 private:
  void copy_runs(std::span<std::byte> out, const std::vector<std::byte>& pool, size_t unit, uint64_t stream) const;

  uint64_t seed_;
  std::vector<std::byte> data_, scales_, biases_;
  size_t data_unit_ = 1;
  size_t scale_unit_ = 1;
};

}  // namespace mobilellm
