/// How the linear layers of a model are stored: counts for each width, with names.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace mobilellm {

/// Linear layers of one kind of storage.
struct StorageGroup {
  std::string label;  ///< "4 bits", "mxfp4", "Q4_K", "BF16".
  bool is_quantized = false;
  std::vector<std::string> names;  ///< Module paths, in the order of the model.
};

struct QuantSummary {
  std::string method;                ///< "affine", "mxfp4", "gguf", "affine (mixed)", "none".
  std::vector<int64_t> group_sizes;  ///< Of the linear layers, in order of appearance; empty when none is quantized.
  int64_t n_linear = 0;              ///< Linear layers, an untied output head included.
  std::vector<StorageGroup> groups;  ///< Narrow ones first.
  std::string embedding;             ///< Storage of the embedding table: "8 bits, group 32", "BF16".
  double bits_per_weight = 0;        ///< Of the whole file.
};

/// Reads headers only. Throws what the readers throw, and kCorruptData when tensors are missing or have wrong shapes.
QuantSummary summarize_quantization(const std::string& path);

}  // namespace mobilellm
