/// Packed groups of MLX as blocks of GGUF and back, value by value: the same codes in another order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "codec/codec.h"

namespace mobilellm {

/// The smallest block type that holds the values of a packed matrix: exactly for affine groups of up to 5 bits (Q4_1,
/// Q5_1), as long as fp16 holds the scales and biases, for mxfp4 (MXFP4), and for affine 8 bits whose biases are -128
/// scales (Q8_0, as append_packed() makes them); nearest for the others (Q8_0).
DType nearest_block_type(const StoredMatrix& packed);

/// Rows [row_begin, row_end) as blocks of nearest_block_type(), appended to `out`. Scales and biases are rounded to
/// fp16. Throws kUnsupported when one of them does not fit it.
void append_blocks(const StoredMatrix& packed, int64_t row_begin, int64_t row_end, std::vector<std::byte>& out);

/// The packing that holds a block type exactly (groups of 32): affine for Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, mxfp4 for
/// MXFP4; nothing for other types.
std::optional<QuantizationParams> exact_packing(DType block_type);

/// One row range of a packed matrix: codes as MLX packs them, and fp16 scales and biases (mxfp4: u8 scales, no biases).
struct PackedRows {
  std::vector<std::byte> weight, scales, biases;
};
/// Rows of a block matrix whose type exact_packing() knows, appended. Throws kUnsupported when fp16 cannot hold a bias.
void append_packed(const StoredMatrix& blocks, int64_t row_begin, int64_t row_end, PackedRows& out);

}  // namespace mobilellm
