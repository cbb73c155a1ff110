// The header first, so sizes are known before any data; then the tensors, one after the other.
#include "formats/safetensors_writer.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <unordered_set>

#include "base/error.h"
#include "base/json.h"
#include "tensor/tensor_view.h"

namespace mobilellm {
namespace {

static_assert(std::endian::native == std::endian::little, "the format is little-endian");

constexpr size_t kDataAlignment = 8;
constexpr size_t kLengthBytes = 8;

void append_entry(std::string& header, const PlannedTensor& tensor, size_t begin, size_t end) {
  append_json_string(header, tensor.name);
  header += fmt::format(":{{\"dtype\":\"{}\",\"shape\":[", dtype_name(tensor.dtype));
  for (size_t i = 0; i < tensor.shape.size(); ++i) header += fmt::format("{}{}", i > 0 ? "," : "", tensor.shape[i]);
  header += fmt::format("],\"data_offsets\":[{},{}]}}", begin, end);
}

std::string make_header(std::span<const PlannedTensor* const> tensors, const SafetensorsMetadata& metadata) {
  std::string header = "{";
  if (!metadata.empty()) {
    Json::Object members;
    for (const auto& [key, value] : metadata) members.emplace_back(key, value);
    header += "\"__metadata__\":" + Json(std::move(members)).dump();
  }
  size_t offset = 0;
  for (const PlannedTensor* tensor : tensors) {
    if (header.size() > 1) header += ',';
    const size_t end = checked_add(offset, planned_bytes(*tensor), "bytes of a file");
    append_entry(header, *tensor, offset, end);
    offset = end;
  }
  header += '}';
  header.append((kDataAlignment - header.size() % kDataAlignment) % kDataAlignment, ' ');
  return header;
}

void check_plan(const std::string& path, std::span<const PlannedTensor> tensors) {
  std::unordered_set<std::string_view> names;
  for (const PlannedTensor& tensor : tensors) {
    if (is_block_dtype(tensor.dtype)) {
      fail(ErrorCode::kInvalidArgument, "[safetensors] {}: tensor '{}': got type {}, which only GGUF files can hold",
           path, printable_name(tensor.name), dtype_name(tensor.dtype));
    }
    if (!names.insert(tensor.name).second) {
      fail(ErrorCode::kInvalidArgument, "[safetensors] {}: tensor '{}' appears twice", path,
           printable_name(tensor.name));
    }
  }
}

}  // namespace

void write_safetensors(const std::string& path, std::span<const PlannedTensor> tensors,
                       const SafetensorsMetadata& metadata) {
  check_plan(path, tensors);
  std::vector<const PlannedTensor*> order;
  for (const PlannedTensor& tensor : tensors) order.push_back(&tensor);
  // Sizes of wide elements are multiples of their width, so what follows them is aligned too.
  std::stable_sort(order.begin(), order.end(), [](const PlannedTensor* a, const PlannedTensor* b) {
    return dtype_info(a->dtype).block_bytes > dtype_info(b->dtype).block_bytes;
  });
  const std::string header = make_header(order, metadata);
  OutputFile file(path);
  const uint64_t n_header = header.size();
  char length[kLengthBytes];
  std::memcpy(length, &n_header, sizeof(length));
  file.write(std::string_view(length, sizeof(length)));
  file.write(header);
  for (const PlannedTensor* tensor : order) write_planned(*tensor, file);
  file.close();
}

void write_safetensors_model(const StagedOutput& folder, std::span<const PlannedTensor> tensors,
                             const SafetensorsModelOptions& options) {
  const auto shards = split_into_shards(tensors, options.max_shard_bytes);
  std::vector<std::pair<std::string, std::string>> weight_map;
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string name = shards.size() == 1 ? std::string("model.safetensors")
                                                : fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
    write_safetensors(folder.file(name), shards[i], options.metadata);
    for (const PlannedTensor& tensor : shards[i]) weight_map.emplace_back(tensor.name, name);
  }
  if (shards.size() == 1 && !options.always_index) return;
  Json metadata = Json::object();
  metadata.set("total_size", static_cast<int64_t>(planned_bytes(tensors)));
  if (options.n_parameters > 0) metadata.set("total_parameters", options.n_parameters);
  std::sort(weight_map.begin(), weight_map.end());
  Json::Object names;
  for (auto& [tensor, file] : weight_map) names.emplace_back(std::move(tensor), std::move(file));
  Json index = Json::object();
  index.set("metadata", std::move(metadata)).set("weight_map", Json(std::move(names)));
  write_file(folder.file("model.safetensors.index.json"), index.dump_pretty(options.indent) + "\n");
}

}  // namespace mobilellm
