// Header, metadata and tensor table, padding, then the tensors in order; the layout is drawn in gguf.cpp.
#include "formats/gguf_writer.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <type_traits>
#include <unordered_set>

#include "base/error.h"
#include "formats/gguf.h"
#include "formats/gguf_types.h"
#include "tensor/tensor_view.h"

namespace mobilellm {
namespace {

static_assert(std::endian::native == std::endian::little, "the format is little-endian");

constexpr uint32_t kVersion = 3;
constexpr size_t kDefaultAlignment = 32;
constexpr size_t kMaxNameBytes = 63;
constexpr size_t kMaxDimensions = 4;

template <typename T>
void append(std::string& out, T value) {
  static_assert(std::is_arithmetic_v<T>);
  char bytes[sizeof(T)];
  std::memcpy(bytes, &value, sizeof(T));
  out.append(bytes, sizeof(T));
}

void append_string(std::string& out, std::string_view text) {
  append(out, static_cast<uint64_t>(text.size()));
  out += text;
}

template <typename T>
constexpr GgufType type_of() {
  if constexpr (std::is_same_v<T, uint16_t>) return GgufType::kU16;
  if constexpr (std::is_same_v<T, uint32_t>) return GgufType::kU32;
  if constexpr (std::is_same_v<T, int32_t>) return GgufType::kI32;
  if constexpr (std::is_same_v<T, uint64_t>) return GgufType::kU64;
  if constexpr (std::is_same_v<T, float>) return GgufType::kF32;
  if constexpr (std::is_same_v<T, bool>) return GgufType::kBool;
  return GgufType::kString;
}

template <typename T>
void append_plain(std::string& out, const T& value) {
  if constexpr (std::is_same_v<T, std::string>) {
    append_string(out, value);
  } else if constexpr (std::is_same_v<T, bool>) {
    append(out, static_cast<uint8_t>(value ? 1 : 0));
  } else {
    append(out, value);
  }
}

struct ValueWriter {
  std::string& out;

  void operator()(const GgufEncodedValue& value) const { out += value.bytes; }

  template <typename T>
  void operator()(const T& value) const {
    append(out, static_cast<uint32_t>(type_of<T>()));
    append_plain(out, value);
  }
  template <typename T>
  void operator()(const std::vector<T>& values) const {
    append(out, static_cast<uint32_t>(GgufType::kArray));
    append(out, static_cast<uint32_t>(type_of<T>()));
    append(out, static_cast<uint64_t>(values.size()));
    for (size_t i = 0; i < values.size(); ++i) append_plain<T>(out, values[i]);
  }
};

void append_tensor(std::string& out, const std::string& path, const PlannedTensor& tensor, size_t offset) {
  const auto refuse = [&](const std::string& problem) {
    fail(ErrorCode::kInvalidArgument, "[gguf] {}: tensor '{}': {}", path, printable_name(tensor.name), problem);
  };
  const GgufTensorType* type = gguf_tensor_type(tensor.dtype);
  if (type == nullptr) refuse(fmt::format("got type {}, which GGUF files cannot hold", dtype_name(tensor.dtype)));
  if (tensor.shape.size() > kMaxDimensions) {
    refuse(fmt::format("got {} dimensions, expected at most {}", tensor.shape.size(), kMaxDimensions));
  }
  if (tensor.name.empty() || tensor.name.size() > kMaxNameBytes) {
    refuse(fmt::format("got a name of {} bytes, expected 1 to {}", tensor.name.size(), kMaxNameBytes));
  }
  append_string(out, tensor.name);
  // A scalar is one value in one dimension.
  const std::vector<int64_t> shape = tensor.shape.empty() ? std::vector<int64_t>{1} : tensor.shape;
  append(out, static_cast<uint32_t>(shape.size()));
  for (size_t i = shape.size(); i-- > 0;) append(out, static_cast<uint64_t>(shape[i]));
  append(out, type->id);
  append(out, static_cast<uint64_t>(offset));
}

}  // namespace

GgufEncodedValue encode_gguf_value(const GgufValue& value) {
  GgufEncodedValue encoded;
  std::string& out = encoded.bytes;
  append(out, static_cast<uint32_t>(value.type));
  switch (value.type) {
    case GgufType::kU8:
    case GgufType::kI8:
    case GgufType::kBool:
      append(out, static_cast<uint8_t>(value.integer));
      break;
    case GgufType::kU16:
    case GgufType::kI16:
      append(out, static_cast<uint16_t>(value.integer));
      break;
    case GgufType::kU32:
    case GgufType::kI32:
      append(out, static_cast<uint32_t>(value.integer));
      break;
    case GgufType::kU64:
    case GgufType::kI64:
      append(out, static_cast<uint64_t>(value.integer));
      break;
    case GgufType::kF32:
      append(out, static_cast<float>(value.number));
      break;
    case GgufType::kF64:
      append(out, value.number);
      break;
    case GgufType::kString:
      append_string(out, value.text);
      break;
    case GgufType::kArray:
      append(out, static_cast<uint32_t>(value.element_type));
      append(out, static_cast<uint64_t>(value.n_elements));
      for (const std::string_view text : value.strings) append_string(out, text);
      out.append(reinterpret_cast<const char*>(value.raw.data()), value.raw.size());
      break;
  }
  return encoded;
}

void GgufMetadata::set(std::string_view key, GgufMetadataValue value) {
  for (auto& [name, old] : entries_) {
    if (name != key) continue;
    old = std::move(value);
    return;
  }
  entries_.emplace_back(key, std::move(value));
}

const GgufMetadataValue* GgufMetadata::find(std::string_view key) const {
  for (const auto& [name, value] : entries_) {
    if (name == key) return &value;
  }
  return nullptr;
}

void write_gguf(const std::string& path, const GgufMetadata& metadata, std::span<const PlannedTensor> tensors,
                size_t alignment) {
  if (!std::has_single_bit(alignment) || alignment < 8) {
    fail(ErrorCode::kInvalidArgument, "[gguf] {}: alignment: got {}, expected a power of two from 8 up", path,
         alignment);
  }
  GgufMetadata complete = metadata;
  if (alignment != kDefaultAlignment) complete.set("general.alignment", static_cast<uint32_t>(alignment));

  std::string header = "GGUF";
  append(header, kVersion);
  append(header, static_cast<uint64_t>(tensors.size()));
  append(header, static_cast<uint64_t>(complete.entries().size()));
  for (const auto& [key, value] : complete.entries()) {
    append_string(header, key);
    std::visit(ValueWriter{header}, value);
  }
  size_t offset = 0;
  std::unordered_set<std::string_view> names;
  for (const PlannedTensor& tensor : tensors) {
    if (!names.insert(tensor.name).second) {
      fail(ErrorCode::kInvalidArgument, "[gguf] {}: tensor '{}' appears twice", path, printable_name(tensor.name));
    }
    append_tensor(header, path, tensor, offset);
    offset = checked_add(offset, planned_bytes(tensor), "bytes of a file");
    offset = checked_add(offset, (alignment - offset % alignment) % alignment, "bytes of a file");
  }

  OutputFile file(path);
  file.write(header);
  file.pad_to(alignment);
  for (const PlannedTensor& tensor : tensors) {
    write_planned(tensor, file);
    file.pad_to(alignment);
  }
  file.close();
}

std::vector<std::string> write_gguf_set(const StagedOutput& folder, const std::string& base_name,
                                        const GgufMetadata& metadata, std::span<const PlannedTensor> tensors,
                                        size_t max_shard_bytes) {
  const auto shards = split_into_shards(tensors, max_shard_bytes);
  std::vector<std::string> names;
  if (shards.size() == 1) {
    names.push_back(base_name + ".gguf");
    write_gguf(folder.file(names.front()), metadata, tensors);
    return names;
  }
  for (size_t i = 0; i < shards.size(); ++i) {
    GgufMetadata shard_metadata = i == 0 ? metadata : GgufMetadata();
    shard_metadata.set("split.no", static_cast<uint16_t>(i));
    shard_metadata.set("split.count", static_cast<uint16_t>(shards.size()));
    shard_metadata.set("split.tensors.count", static_cast<int32_t>(tensors.size()));
    names.push_back(fmt::format("{}-{:05}-of-{:05}.gguf", base_name, i + 1, shards.size()));
    write_gguf(folder.file(names.back()), shard_metadata, shards[i]);
  }
  return names;
}

}  // namespace mobilellm
