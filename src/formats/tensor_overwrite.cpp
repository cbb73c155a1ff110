// Positions of tensors come from the reader, which has checked that their data covers the file's end exactly.
#include "formats/tensor_overwrite.h"

#include <algorithm>
#include <fstream>

#include "base/error.h"
#include "formats/safetensors.h"

namespace mobilellm {

size_t overwrite_tensors(const std::string& path, std::span<const TensorBytes> tensors) {
  struct Change {
    std::streamoff at;
    std::span<const std::byte> data;
  };
  std::vector<Change> changes;
  std::streamoff data_begin = 0;
  {
    const auto source = open_safetensors(path);
    const std::byte* first = nullptr;
    for (const TensorView& tensor : source->tensors()) {
      if (!tensor.data.empty()) first = first == nullptr ? tensor.data.data() : std::min(first, tensor.data.data());
    }
    for (const TensorBytes& change : tensors) {
      const TensorView* tensor = source->find(change.name);
      if (tensor == nullptr) continue;
      if (tensor->data.size() != change.data.size()) {
        fail(ErrorCode::kInvalidArgument, "[safetensors] {}: tensor '{}': got {} bytes, expected {}", path, change.name,
             change.data.size(), tensor->data.size());
      }
      changes.push_back({tensor->data.data() - first, change.data});
    }
    data_begin = -static_cast<std::streamoff>(source->total_bytes());
  }
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(data_begin, std::ios::end);
  data_begin = file.tellg();
  for (const Change& change : changes) {
    file.seekp(data_begin + change.at);
    file.write(reinterpret_cast<const char*>(change.data.data()), static_cast<std::streamsize>(change.data.size()));
  }
  file.flush();
  if (!file) fail(ErrorCode::kIo, "[safetensors] {}: cannot write new values", path);
  return changes.size();
}

}  // namespace mobilellm
