/// Choice of scales, minima and codes of a GGUF super-block, before its bits are packed.
#pragma once

#include <cstdint>

namespace mobilellm {

inline constexpr int kSuperBlockValues = 256;
inline constexpr int kMaxSubBlocks = 16;

/// What distinguishes the types: x ~ d * scale * q - dmin * min for each sub-block.
struct SuperBlockShape {
  int n_blocks;      ///< Sub-blocks, 8 or 16.
  int code_low;      ///< Range of q.
  int code_high;     ///< .
  int scale_low;     ///< Range of the integer scales.
  int scale_high;    ///< .
  bool has_minimum;  ///< Also minima in [0, scale_high]; q is then >= 0.
  bool has_levels;   ///< q is the index of a non-linear level, whose value takes its place in the formula.

  constexpr int block_values() const { return kSuperBlockValues / n_blocks; }
};

struct SuperBlock {
  float d = 0.0F;     ///< As stored: an fp16 value.
  float dmin = 0.0F;  ///< Likewise; 0 without minima.
  int scales[kMaxSubBlocks] = {};
  int mins[kMaxSubBlocks] = {};
  uint8_t codes[kSuperBlockValues];  ///< q - code_low.
};

/// The choice of ggml's reference quantizers, to the same bits. `x` holds 256 values.
void choose_super_block(const SuperBlockShape& shape, const float* x, SuperBlock& out);

/// The choice for the least weighted squared error over 256 values; `importance` [256], >= 0.
void choose_super_block(const SuperBlockShape& shape, const float* x, const float* importance, SuperBlock& out);

inline constexpr SuperBlockShape kShapeQ2K = {16, 0, 3, 0, 15, true, false};
inline constexpr SuperBlockShape kShapeQ3K = {16, -4, 3, -32, 31, false, false};
inline constexpr SuperBlockShape kShapeQ4K = {8, 0, 15, 0, 63, true, false};
inline constexpr SuperBlockShape kShapeQ5K = {8, 0, 31, 0, 63, true, false};
inline constexpr SuperBlockShape kShapeQ6K = {16, -32, 31, -128, 127, false, false};
inline constexpr SuperBlockShape kShapeIQ4XS = {8, 0, 15, -32, 31, false, true};

}  // namespace mobilellm
