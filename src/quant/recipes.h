/// Named mixtures of storage, as mlx-lm and llama.cpp choose them by role and layer.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "convert/convert.h"
#include "convert/matrix_quantizer.h"
#include "model/spec.h"
#include "model/tensor_table.h"

namespace mobilellm {

/// A mixture: mlx-lm's mixed_2_6, mixed_3_4, mixed_3_6, mixed_4_6, or llama.cpp's Q2_K_S, Q3_K_S, Q3_K_M, Q3_K_L,
/// Q4_K_S, Q4_K_M, Q5_K_S, Q5_K_M.
struct StorageRecipe {
  const char* name;
  ModelFormat format;  ///< kMlx or kGguf.
  /// For a matrix of the model; before what its rows divide into.
  MatrixStorage (*choose)(const ModelSpec& spec, TensorRole role, int layer);

  /// For rows of `cols` values: llama.cpp has its own idea of what takes the place of blocks that do not fit; otherwise
  /// as choose(), for fit_storage().
  MatrixStorage choose_for(const ModelSpec& spec, TensorRole role, int layer, int64_t cols) const;
};

/// nullptr for an unknown name.
const StorageRecipe* find_recipe(std::string_view name);
/// "mixed_2_6, mixed_3_4 ..." of one format.
std::string recipe_names(ModelFormat format);

/// A setting for the matrices whose names in the target match a pattern.
struct StorageOverride {
  std::string pattern;                   ///< `*` stands for any text, `?` for one character; without ".weight".
  std::optional<MatrixStorage> storage;  ///< Nothing: stays float.
};

/// "PATTERN=BITS", "PATTERN=BITS:GROUP", "PATTERN=float" or for GGUF "PATTERN=TYPE". `usual_group` is the group of a
/// setting that names none. Throws kInvalidArgument.
StorageOverride parse_override(std::string_view text, ModelFormat format, int usual_group);

/// True when the whole of `text` matches.
bool matches_pattern(std::string_view pattern, std::string_view text);

/// The GGUF types that quantization writes.
std::vector<DType> quantized_block_types();

}  // namespace mobilellm
