/// Writer of GGUF files (version 3, little endian), single and split.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/staged_output.h"
#include "formats/planned_tensor.h"

namespace mobilellm {

struct GgufValue;

/// A value of any type as it lies in a file: u32 type and bytes. For metadata that is copied unseen.
struct GgufEncodedValue {
  std::string bytes;
};
GgufEncodedValue encode_gguf_value(const GgufValue& value);

/// A metadata value in the type it is stored as. Arrays hold one type.
using GgufMetadataValue = std::variant<uint16_t, uint32_t, int32_t, uint64_t, float, bool, std::string,
                                       std::vector<uint32_t>, std::vector<int32_t>, std::vector<float>,
                                       std::vector<bool>, std::vector<std::string>, GgufEncodedValue>;

/// Keys in the order they were set.
class GgufMetadata {
 public:
  /// Adds or replaces.
  void set(std::string_view key, GgufMetadataValue value);
  /// nullptr when absent.
  const GgufMetadataValue* find(std::string_view key) const;
  const std::vector<std::pair<std::string, GgufMetadataValue>>& entries() const { return entries_; }

 private:
  std::vector<std::pair<std::string, GgufMetadataValue>> entries_;
};

/// One file. Every tensor lies at a multiple of `alignment` (a power of two, written as general.alignment when it is
/// not 32). Throws kInvalidArgument for a type that GGUF lacks, more than 4 dimensions, or a name that appears twice or
/// is longer than the 63 bytes that readers take; kIo when the system refuses.
void write_gguf(const std::string& path, const GgufMetadata& metadata, std::span<const PlannedTensor> tensors,
                size_t alignment = 32);

/// Shards `BASE-0000N-of-0000M.gguf` of at most `max_shard_bytes` of tensors, the first with all metadata; one file
/// `BASE.gguf` when one is enough. Returns the names.
std::vector<std::string> write_gguf_set(const StagedOutput& folder, const std::string& base_name,
                                        const GgufMetadata& metadata, std::span<const PlannedTensor> tensors,
                                        size_t max_shard_bytes);

}  // namespace mobilellm
