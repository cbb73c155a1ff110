/// Writer of safetensors files, single and sharded with an index.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/staged_output.h"
#include "formats/planned_tensor.h"

namespace mobilellm {

using SafetensorsMetadata = std::vector<std::pair<std::string, std::string>>;

/// One file. Data lies at multiples of its element size, wide types first. Throws kInvalidArgument for a block type of
/// GGUF or a name that appears twice, kIo when the system refuses.
void write_safetensors(const std::string& path, std::span<const PlannedTensor> tensors,
                       const SafetensorsMetadata& metadata);

struct SafetensorsModelOptions {
  SafetensorsMetadata metadata;
  size_t max_shard_bytes = size_t{5} << 30;  ///< 0: one file.
  bool always_index = false;                 ///< An index for a single file too, as mlx-lm writes it.
  int64_t n_parameters = 0;                  ///< For the index; 0 leaves it out.
  int indent = 2;                            ///< Of the index.
};

/// model.safetensors, or model-0000N-of-0000M.safetensors with model.safetensors.index.json, into a staged folder.
void write_safetensors_model(const StagedOutput& folder, std::span<const PlannedTensor> tensors,
                             const SafetensorsModelOptions& options);

}  // namespace mobilellm
