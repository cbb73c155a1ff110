// Counting of stored matrices.
#include "model/quant_summary.h"

#include <algorithm>
#include <optional>

#include "base/error.h"
#include "model/binding.h"
#include "model/checkpoint.h"

namespace mobilellm {
namespace {

struct Storage {
  std::string label;
  std::string method;
  double bits = 0;  // For sorting.
  bool is_quantized = false;
  int64_t group_size = 0;
};

Storage storage_of(const TensorMatch& match) {
  Storage storage;
  if (match.quantization) {
    const QuantizationParams& params = *match.quantization;
    storage.is_quantized = true;
    storage.bits = params.bits;
    storage.group_size = params.group_size;
    storage.method = quant_mode_name(params.mode);
    storage.label = params.mode == QuantMode::kAffine ? fmt::format("{} bits", params.bits) : storage.method;
    return storage;
  }
  const DTypeInfo& info = dtype_info(match.weight->dtype);
  storage.label = info.name;
  storage.bits = static_cast<double>(info.block_bytes) * 8 / static_cast<double>(info.block_values);
  storage.is_quantized = is_block_dtype(match.weight->dtype);
  if (storage.is_quantized) {
    storage.method = "gguf";
    storage.group_size = info.block_values;
  }
  return storage;
}

std::string module_path(const std::string& weight_name) {
  constexpr std::string_view kSuffix = ".weight";
  return weight_name.ends_with(kSuffix) ? weight_name.substr(0, weight_name.size() - kSuffix.size()) : weight_name;
}

template <typename T>
void add_new(std::vector<T>& list, const T& value) {
  if (std::find(list.begin(), list.end(), value) == list.end()) list.push_back(value);
}

}  // namespace

QuantSummary summarize_quantization(const std::string& path) {
  const CheckpointDir checkpoint = open_checkpoint(path);
  const std::optional<QuantizationConfig> quantization = checkpoint_quantization(checkpoint);
  const ModelDescription description = describe_checkpoint(checkpoint);
  const BindingReport binding = match_tensors(description, *checkpoint.weights, quantization);
  const std::string error = binding.first_error();
  if (!error.empty()) fail(ErrorCode::kCorruptData, "[summary] {}: {}", checkpoint.weights->path(), error);

  QuantSummary summary;
  std::vector<std::string> methods;
  std::vector<std::pair<double, StorageGroup>> groups;
  for (size_t i = 0; i < binding.table.size(); ++i) {
    const TensorEntry& entry = binding.table[i];
    if (!entry.is_matrix()) continue;
    const Storage storage = storage_of(binding.matches[i]);
    if (entry.role == TensorRole::kEmbedTokens) {
      summary.embedding = storage.label;
      if (storage.group_size > 0) summary.embedding += fmt::format(", group {}", storage.group_size);
      continue;
    }
    ++summary.n_linear;
    if (storage.is_quantized) {
      add_new(methods, storage.method);
      add_new(summary.group_sizes, storage.group_size);
    }
    auto group = std::find_if(groups.begin(), groups.end(),
                              [&](const auto& other) { return other.second.label == storage.label; });
    if (group == groups.end()) {
      group = groups.insert(group, {storage.bits, StorageGroup{storage.label, storage.is_quantized, {}}});
    }
    group->second.names.push_back(module_path(binding.matches[i].weight->name));
  }
  std::stable_sort(groups.begin(), groups.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  for (auto& [bits, group] : groups) summary.groups.push_back(std::move(group));
  for (const std::string& method : methods) summary.method += (summary.method.empty() ? "" : ", ") + method;
  if (methods.empty()) summary.method = "none";
  if (!methods.empty() && summary.groups.size() > 1) summary.method += " (mixed)";
  summary.bits_per_weight = static_cast<double>(checkpoint.weights->total_bytes()) * 8 /
                            static_cast<double>(parameter_count(description.spec));
  return summary;
}

}  // namespace mobilellm
