/// New values for tensors of a safetensors file that keep their types and shapes.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

namespace mobilellm {

struct TensorBytes {
  std::string name;
  std::span<const std::byte> data;
};

/// Writes the data of those tensors that the file has over their old data and returns how many these were. Throws kIo
/// for the file, kInvalidArgument naming a tensor of another size; the file is spoiled after an error.
size_t overwrite_tensors(const std::string& path, std::span<const TensorBytes> tensors);

}  // namespace mobilellm
