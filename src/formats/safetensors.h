/// Reader of safetensors files, single and sharded.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "formats/weight_source.h"

namespace mobilellm {

/// A safetensors file or a set of shards.
class SafetensorsSource : public WeightSource {
 public:
  /// `__metadata__` of the file (of the first shard), in file order.
  virtual const std::vector<std::pair<std::string, std::string>>& metadata() const = 0;
  /// Value of a metadata key; nullptr when absent.
  const std::string* find_metadata(std::string_view key) const;
};

/// Opens one file of any size: a model or a small golden file. Throws kNotFound or kIo for the file, kCorruptData
/// naming the file and tensor for every broken rule of the format (header length, types, shapes, ranges that overlap,
/// leave a gap or end outside, duplicate names). Data may lie at any offset.
std::shared_ptr<SafetensorsSource> open_safetensors(const std::string& path);

/// Opens the shards named by `model.safetensors.index.json`. Throws kCorruptData for a shard name that is not a plain
/// file name and for a tensor that its shard lacks; kNotFound naming a missing shard.
std::shared_ptr<SafetensorsSource> open_safetensors_index(const std::string& index_path);

/// Opens files that together hold the tensors, without an index; at least one. Throws kCorruptData when two of them
/// hold a tensor of one name.
std::shared_ptr<SafetensorsSource> open_safetensors_shards(const std::vector<std::string>& paths);

}  // namespace mobilellm
