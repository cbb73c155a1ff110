/// Reader of GGUF files (versions 2 and 3, little endian), single and split.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/mapped_file.h"
#include "formats/weight_source.h"

namespace mobilellm {

/// Numbers as in the file.
enum class GgufType : uint32_t {
  kU8 = 0,
  kI8 = 1,
  kU16 = 2,
  kI16 = 3,
  kU32 = 4,
  kI32 = 5,
  kF32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kU64 = 10,
  kI64 = 11,
  kF64 = 12,
};

/// "u32", "string", "array" ...
const char* gguf_type_name(GgufType type);

/// One metadata value. Text and numbers of arrays stay in the mapped file.
struct GgufValue {
  GgufType type = GgufType::kU32;
  GgufType element_type = GgufType::kU32;  ///< Of an array.
  size_t n_elements = 0;                   ///< Of an array.
  int64_t integer = 0;                     ///< Integers and bool; u64 above the int64 range wraps.
  double number = 0.0;                     ///< Every numeric type and bool, as a double.
  std::string_view text;                   ///< A string.
  std::span<const std::byte> raw;          ///< Elements of a numeric array, unaligned.
  std::vector<std::string_view> strings;   ///< Elements of a string array.
};

class GgufFile : public WeightSource {
 public:
  /// Opens a file; given any shard of a split file, all its shards. Throws kNotFound, kIo, kCorruptData (naming file
  /// and key or tensor) or kUnsupported (version 1, big endian, nested arrays). Tensors of types that DType lacks are
  /// listed (TensorView::unsupported_type) and no error.
  static std::shared_ptr<GgufFile> open(const std::string& path);

  const std::vector<TensorView>& tensors() const override { return tensors_; }
  std::string path() const override { return path_; }
  void check_unchanged() const override;

  uint32_t version() const { return version_; }
  size_t alignment() const { return alignment_; }
  size_t n_shards() const { return files_.size(); }
  /// Keys in file order (of the first shard).
  const std::vector<std::string>& keys() const { return keys_; }

  /// Metadata value; nullptr when absent. (find() and get() are about tensors.)
  const GgufValue* find_key(std::string_view key) const;
  /// Typed values. Throw kCorruptData naming the key and file when absent (without a default), of another type, or
  /// outside [min, max]. Any integer type is accepted for an integer, any numeric type for a number.
  int64_t get_int(std::string_view key, int64_t min, int64_t max) const;
  int64_t get_int(std::string_view key, int64_t min, int64_t max, int64_t default_value) const;
  double get_number(std::string_view key) const;
  double get_number(std::string_view key, double default_value) const;
  bool get_bool(std::string_view key, bool default_value) const;
  std::string_view get_string(std::string_view key) const;
  std::string_view get_string(std::string_view key, std::string_view default_value) const;
  /// Arrays; throw as above.
  const std::vector<std::string_view>& get_strings(std::string_view key) const;
  std::vector<int64_t> get_ints(std::string_view key) const;  ///< Integers and bools.
  std::vector<float> get_floats(std::string_view key) const;  ///< Any numeric elements.
  /// `n` integers from an array of n or from one integer that stands for all: per-layer keys come in both forms.
  std::vector<int64_t> get_ints_or_repeat(std::string_view key, size_t n, int64_t min, int64_t max) const;

 private:
  GgufFile() = default;
  const GgufValue& require(std::string_view key) const;

  std::string path_;
  uint32_t version_ = 0;
  size_t alignment_ = 0;
  std::vector<std::shared_ptr<const MappedFile>> files_;
  std::vector<TensorView> tensors_;
  std::vector<std::string> keys_;
  std::unordered_map<std::string, GgufValue> values_;
};

}  // namespace mobilellm
