// Typed access to GGUF metadata, with errors that name the key and the file.
#include <cstring>
#include <limits>

#include "base/error.h"
#include "formats/gguf.h"

namespace mobilellm {
namespace {

bool is_integer(GgufType type) {
  return type != GgufType::kF32 && type != GgufType::kF64 && type != GgufType::kBool && type != GgufType::kString &&
         type != GgufType::kArray;
}

bool is_number(GgufType type) { return is_integer(type) || type == GgufType::kF32 || type == GgufType::kF64; }

// "u32", or "array of string".
std::string type_text(const GgufValue& value) {
  if (value.type != GgufType::kArray) return gguf_type_name(value.type);
  return std::string("array of ") + gguf_type_name(value.element_type);
}

[[noreturn]] void fail_type(std::string_view key, const std::string& path, const GgufValue& value,
                            const char* expected) {
  fail(ErrorCode::kCorruptData, "[gguf] {}: key '{}': got {}, expected {}", path, key, type_text(value), expected);
}

int64_t checked_int(std::string_view key, const std::string& path, const GgufValue& value, int64_t min, int64_t max) {
  if (!is_integer(value.type)) fail_type(key, path, value, "an integer");
  const bool is_too_large = value.type == GgufType::kU64 && value.integer < 0;
  if (is_too_large || value.integer < min || value.integer > max) {
    const std::string got =
        is_too_large ? std::to_string(static_cast<uint64_t>(value.integer)) : std::to_string(value.integer);
    fail(ErrorCode::kCorruptData, "[gguf] {}: key '{}': got {}, expected an integer in [{}, {}]", path, key, got, min,
         max);
  }
  return value.integer;
}

template <typename Stored, typename Out>
void append_all(std::span<const std::byte> raw, std::vector<Out>& out) {
  out.reserve(raw.size() / sizeof(Stored));
  for (size_t offset = 0; offset < raw.size(); offset += sizeof(Stored)) {
    Stored value;
    std::memcpy(&value, raw.data() + offset, sizeof(Stored));
    out.push_back(static_cast<Out>(value));
  }
}

// False when the elements are no integers.
template <typename Out>
bool append_integers(const GgufValue& value, std::vector<Out>& out) {
  switch (value.element_type) {
    case GgufType::kU8:
    case GgufType::kBool:
      append_all<uint8_t>(value.raw, out);
      return true;
    case GgufType::kI8:
      append_all<int8_t>(value.raw, out);
      return true;
    case GgufType::kU16:
      append_all<uint16_t>(value.raw, out);
      return true;
    case GgufType::kI16:
      append_all<int16_t>(value.raw, out);
      return true;
    case GgufType::kU32:
      append_all<uint32_t>(value.raw, out);
      return true;
    case GgufType::kI32:
      append_all<int32_t>(value.raw, out);
      return true;
    case GgufType::kU64:
      append_all<uint64_t>(value.raw, out);
      return true;
    case GgufType::kI64:
      append_all<int64_t>(value.raw, out);
      return true;
    case GgufType::kF32:
    case GgufType::kF64:
    case GgufType::kString:
    case GgufType::kArray:
      break;
  }
  return false;
}

}  // namespace

const GgufValue& GgufFile::require(std::string_view key) const {
  const GgufValue* value = find_key(key);
  if (value == nullptr) fail(ErrorCode::kCorruptData, "[gguf] {}: key '{}' is missing", path_, key);
  return *value;
}

int64_t GgufFile::get_int(std::string_view key, int64_t min, int64_t max) const {
  return checked_int(key, path_, require(key), min, max);
}

int64_t GgufFile::get_int(std::string_view key, int64_t min, int64_t max, int64_t default_value) const {
  const GgufValue* value = find_key(key);
  return value == nullptr ? default_value : checked_int(key, path_, *value, min, max);
}

double GgufFile::get_number(std::string_view key) const {
  const GgufValue& value = require(key);
  if (!is_number(value.type)) fail_type(key, path_, value, "a number");
  return value.number;
}

double GgufFile::get_number(std::string_view key, double default_value) const {
  return find_key(key) == nullptr ? default_value : get_number(key);
}

bool GgufFile::get_bool(std::string_view key, bool default_value) const {
  const GgufValue* value = find_key(key);
  if (value == nullptr) return default_value;
  if (value->type != GgufType::kBool) fail_type(key, path_, *value, "a bool");
  return value->integer != 0;
}

std::string_view GgufFile::get_string(std::string_view key) const {
  const GgufValue& value = require(key);
  if (value.type != GgufType::kString) fail_type(key, path_, value, "a string");
  return value.text;
}

std::string_view GgufFile::get_string(std::string_view key, std::string_view default_value) const {
  return find_key(key) == nullptr ? default_value : get_string(key);
}

const std::vector<std::string_view>& GgufFile::get_strings(std::string_view key) const {
  const GgufValue& value = require(key);
  if (value.type != GgufType::kArray || value.element_type != GgufType::kString) {
    fail_type(key, path_, value, "an array of strings");
  }
  return value.strings;
}

std::vector<int64_t> GgufFile::get_ints(std::string_view key) const {
  const GgufValue& value = require(key);
  std::vector<int64_t> result;
  if (value.type != GgufType::kArray || !append_integers(value, result)) {
    fail_type(key, path_, value, "an array of integers");
  }
  return result;
}

std::vector<float> GgufFile::get_floats(std::string_view key) const {
  const GgufValue& value = require(key);
  std::vector<float> result;
  if (value.type == GgufType::kArray && value.element_type == GgufType::kF32) {
    append_all<float>(value.raw, result);
  } else if (value.type == GgufType::kArray && value.element_type == GgufType::kF64) {
    append_all<double>(value.raw, result);
  } else if (value.type != GgufType::kArray || !append_integers(value, result)) {
    fail_type(key, path_, value, "an array of numbers");
  }
  return result;
}

std::vector<int64_t> GgufFile::get_ints_or_repeat(std::string_view key, size_t n, int64_t min, int64_t max) const {
  const GgufValue& value = require(key);
  if (value.type != GgufType::kArray) return std::vector<int64_t>(n, checked_int(key, path_, value, min, max));
  if (value.n_elements != n) {
    fail(ErrorCode::kCorruptData, "[gguf] {}: key '{}': got {} elements, expected {}", path_, key, value.n_elements, n);
  }
  std::vector<int64_t> result = get_ints(key);
  for (const int64_t element : result) {
    if (element < min || element > max) {
      fail(ErrorCode::kCorruptData, "[gguf] {}: key '{}': got {}, expected integers in [{}, {}]", path_, key, element,
           min, max);
    }
  }
  return result;
}

}  // namespace mobilellm
