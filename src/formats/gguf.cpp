// Reader of GGUF files: one pass over the metadata and the tensor table, every count checked against the file first.
//
//   "GGUF" u32 version, u64 n_tensors, u64 n_keys
//   keys:    string name, u32 type, value        (string = u64 length, bytes; array = u32 type, u64 count, elements)
//   tensors: string name, u32 n_dims, u64 dims[n_dims] (fastest first), u32 type, u64 offset
//   padding to the alignment, then the data; offsets count from here
#include "formats/gguf.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/error.h"
#include "base/files.h"
#include "base/utf8.h"
#include "formats/gguf_types.h"

namespace mobilellm {
namespace {

constexpr size_t kDefaultAlignment = 32;
constexpr size_t kMaxAlignment = size_t{1} << 20;
constexpr size_t kMaxNameBytes = 65535;
constexpr size_t kMinKeyBytes = 8 + 1 + 4 + 1;
constexpr size_t kMinTensorBytes = 8 + 4 + 8 + 4 + 8;
constexpr uint32_t kMaxDimensions = 4;

// Bytes of a value of fixed size; 0 for strings, arrays and unknown types.
size_t scalar_bytes(GgufType type) {
  switch (type) {
    case GgufType::kU8:
    case GgufType::kI8:
    case GgufType::kBool:
      return 1;
    case GgufType::kU16:
    case GgufType::kI16:
      return 2;
    case GgufType::kU32:
    case GgufType::kI32:
    case GgufType::kF32:
      return 4;
    case GgufType::kU64:
    case GgufType::kI64:
    case GgufType::kF64:
      return 8;
    case GgufType::kString:
    case GgufType::kArray:
      break;
  }
  return 0;
}

template <typename T>
T load(const std::byte* source) {
  T value;
  std::memcpy(&value, source, sizeof(T));
  return value;
}

template <typename T>
void set_integer(const std::byte* source, GgufValue& value) {
  const T number = load<T>(source);
  value.integer = static_cast<int64_t>(number);  // NOLINT(bugprone-signed-char-misuse): an I8 is a number
  value.number = static_cast<double>(number);
}

// A scalar at `source` as both an integer and a double.
void decode_scalar(GgufType type, const std::byte* source, GgufValue& value) {
  switch (type) {
    case GgufType::kU8:
    case GgufType::kBool:
      return set_integer<uint8_t>(source, value);
    case GgufType::kI8:
      return set_integer<int8_t>(source, value);
    case GgufType::kU16:
      return set_integer<uint16_t>(source, value);
    case GgufType::kI16:
      return set_integer<int16_t>(source, value);
    case GgufType::kU32:
      return set_integer<uint32_t>(source, value);
    case GgufType::kI32:
      return set_integer<int32_t>(source, value);
    case GgufType::kU64:
      return set_integer<uint64_t>(source, value);
    case GgufType::kI64:
      return set_integer<int64_t>(source, value);
    case GgufType::kF32:
      value.number = static_cast<double>(load<float>(source));
      return;
    case GgufType::kF64:
      value.number = load<double>(source);
      return;
    case GgufType::kString:
    case GgufType::kArray:
      break;
  }
}

// Reads forward through the file; every error names the file and what was being read.
class Cursor {
 public:
  Cursor(const std::string& path, std::span<const std::byte> bytes) : path_(path), bytes_(bytes) {}

  size_t position() const { return position_; }
  size_t remaining() const { return bytes_.size() - position_; }
  // "FILE: tensor 'NAME'" for messages.
  std::string place() const { return path_ + ": " + context_; }
  void set_context(std::string context) { context_ = std::move(context); }

  [[noreturn]] void fail_here(std::string_view problem, ErrorCode code = ErrorCode::kCorruptData) const {
    fail(code, "[gguf] {}: {}", place(), problem);
  }

  const std::byte* take(size_t n_bytes) {
    if (n_bytes > remaining()) {
      fail_here(fmt::format("needs {} bytes at byte {}, but the file ends at {} (is the download complete?)", n_bytes,
                            position_, bytes_.size()));
    }
    const std::byte* start = bytes_.data() + position_;
    position_ += n_bytes;
    return start;
  }

  template <typename T>
  T read() {
    return load<T>(take(sizeof(T)));
  }

  // A count of things of at least `min_bytes` each.
  size_t read_count(size_t min_bytes, const char* what) {
    const auto n = read<uint64_t>();
    if (n > remaining() / min_bytes) {
      fail_here(fmt::format("got {} {}, more than the {} bytes that follow can hold", n, what, remaining()));
    }
    return static_cast<size_t>(n);
  }

  std::string_view read_string() {
    const size_t n = read_count(1, "bytes of text");
    return {reinterpret_cast<const char*>(take(n)), n};
  }

  // Name of a key or tensor.
  std::string read_name() {
    const std::string_view name = read_string();
    if (name.empty() || name.size() > kMaxNameBytes || !is_valid_utf8(name)) {
      fail_here(fmt::format("got a name of {} bytes, expected 1 to {} bytes of UTF-8", name.size(), kMaxNameBytes));
    }
    return std::string(name);
  }

  GgufType read_type() {
    const auto type = read<uint32_t>();
    if (type > static_cast<uint32_t>(GgufType::kF64))
      fail_here(fmt::format("got value type {}, expected 0 to 12", type));
    return static_cast<GgufType>(type);
  }

 private:
  const std::string& path_;
  std::span<const std::byte> bytes_;
  size_t position_ = 0;
  std::string context_ = "header";
};

void read_array(Cursor& cursor, GgufValue& value) {
  value.element_type = cursor.read_type();
  if (value.element_type == GgufType::kArray) {
    cursor.fail_here("arrays of arrays are not supported", ErrorCode::kUnsupported);
  }
  if (value.element_type == GgufType::kString) {
    value.n_elements = cursor.read_count(sizeof(uint64_t), "strings");
    value.strings.reserve(value.n_elements);
    for (size_t i = 0; i < value.n_elements; ++i) value.strings.push_back(cursor.read_string());
    return;
  }
  const size_t element_bytes = scalar_bytes(value.element_type);
  value.n_elements = cursor.read_count(element_bytes, "elements");
  const size_t n_bytes = value.n_elements * element_bytes;
  value.raw = {cursor.take(n_bytes), n_bytes};
}

GgufValue read_value(Cursor& cursor) {
  GgufValue value;
  value.type = cursor.read_type();
  if (value.type == GgufType::kString) {
    value.text = cursor.read_string();
  } else if (value.type == GgufType::kArray) {
    read_array(cursor, value);
  } else {
    decode_scalar(value.type, cursor.take(scalar_bytes(value.type)), value);
    if (value.type == GgufType::kBool && value.integer > 1) {
      cursor.fail_here(fmt::format("got bool {}, expected 0 or 1", value.integer));
    }
  }
  return value;
}

// One file of a set.
struct Shard {
  std::shared_ptr<const MappedFile> file;
  uint32_t version = 0;
  size_t alignment = kDefaultAlignment;
  std::vector<std::string> keys;
  std::unordered_map<std::string, GgufValue> values;
  std::vector<TensorView> tensors;
};

void read_header(Cursor& cursor, uint32_t& version) {
  if (std::memcmp(cursor.take(4), "GGUF", 4) != 0) cursor.fail_here("the file does not begin with 'GGUF'");
  version = cursor.read<uint32_t>();
  if ((version & 0xFFFFU) == 0 && version != 0) {
    cursor.fail_here("big-endian files are not supported", ErrorCode::kUnsupported);
  }
  if (version != 2 && version != 3) {
    cursor.fail_here(fmt::format("got version {}, expected 2 or 3", version), ErrorCode::kUnsupported);
  }
}

void read_keys(Cursor& cursor, size_t n_keys, Shard& shard) {
  shard.keys.reserve(n_keys);
  for (size_t i = 0; i < n_keys; ++i) {
    cursor.set_context(fmt::format("key {} of {}", i + 1, n_keys));
    std::string key = cursor.read_name();
    cursor.set_context("key '" + printable_name(key) + "'");
    if (!shard.values.emplace(key, read_value(cursor)).second) cursor.fail_here("the key appears twice");
    shard.keys.push_back(std::move(key));
  }
  const auto alignment = shard.values.find("general.alignment");
  if (alignment == shard.values.end()) return;
  cursor.set_context("key 'general.alignment'");
  const int64_t n = alignment->second.integer;
  if (alignment->second.type != GgufType::kU32 || n < 1 || n > int64_t{kMaxAlignment} ||
      !std::has_single_bit(static_cast<uint64_t>(n))) {
    cursor.fail_here(fmt::format("got {} {}, expected a u32 power of two up to {}",
                                 gguf_type_name(alignment->second.type), n, kMaxAlignment));
  }
  shard.alignment = static_cast<size_t>(n);
}

// Tensor table entry with its place in the data.
struct Entry {
  TensorView view;
  uint64_t begin = 0;
  uint64_t n_bytes = 0;
  bool has_known_size = true;
};

Entry read_tensor(Cursor& cursor, size_t alignment) {
  Entry entry;
  entry.view.name = cursor.read_name();
  cursor.set_context("tensor '" + printable_name(entry.view.name) + "'");
  const auto n_dims = cursor.read<uint32_t>();
  if (n_dims < 1 || n_dims > kMaxDimensions) {
    cursor.fail_here(fmt::format("got {} dimensions, expected 1 to {}", n_dims, kMaxDimensions));
  }
  for (uint32_t i = 0; i < n_dims; ++i) {
    const auto dimension = cursor.read<uint64_t>();
    if (dimension > static_cast<uint64_t>(INT64_MAX))
      cursor.fail_here(fmt::format("dimension {} is too large", dimension));
    entry.view.shape.push_back(static_cast<int64_t>(dimension));
  }
  const int64_t cols = entry.view.shape.front();
  std::reverse(entry.view.shape.begin(), entry.view.shape.end());
  const auto type_id = cursor.read<uint32_t>();
  entry.begin = cursor.read<uint64_t>();
  if (entry.begin % alignment != 0) {
    cursor.fail_here(fmt::format("got offset {}, expected a multiple of the alignment {}", entry.begin, alignment));
  }

  const int64_t n_values = checked_n_values(entry.view.shape, cursor.place());
  const GgufTensorType* type = find_gguf_tensor_type(type_id);
  if (type == nullptr) {
    entry.view.unsupported_type = fmt::format("number {}", type_id);
    entry.view.dtype = DType::kU8;
    entry.has_known_size = false;
    return entry;
  }
  if (type->dtype) {
    entry.view.dtype = *type->dtype;
  } else {
    entry.view.unsupported_type = type->name;
    entry.view.dtype = DType::kU8;
  }
  if (cols % type->block_values != 0) {
    cursor.fail_here(fmt::format("got rows of {} values, expected a multiple of {} for type {}", cols,
                                 type->block_values, type->name));
  }
  if (__builtin_mul_overflow(static_cast<uint64_t>(n_values / type->block_values), uint64_t{type->block_bytes},
                             &entry.n_bytes)) {
    cursor.fail_here(fmt::format("the bytes of shape {} do not fit in 64 bits", shape_text(entry.view.shape)));
  }
  return entry;
}

// Checks that ranges lie in the file and do not overlap, and sets the views' data.
void place_tensors(Cursor& cursor, std::vector<Entry>& entries, std::span<const std::byte> data) {
  std::vector<Entry*> sorted;
  sorted.reserve(entries.size());
  for (Entry& entry : entries) sorted.push_back(&entry);
  std::sort(sorted.begin(), sorted.end(), [](const Entry* a, const Entry* b) {
    return a->begin != b->begin ? a->begin < b->begin : a->n_bytes < b->n_bytes;
  });
  for (size_t i = 0; i < sorted.size(); ++i) {
    Entry& entry = *sorted[i];
    const bool is_last = i + 1 == sorted.size();
    const uint64_t limit = is_last ? data.size() : std::min<uint64_t>(sorted[i + 1]->begin, data.size());
    cursor.set_context("tensor '" + printable_name(entry.view.name) + "'");
    if (entry.begin > data.size() || entry.n_bytes > data.size() - entry.begin) {
      cursor.fail_here(
          fmt::format("got {} bytes at offset {}, past the end of the {} bytes of data (is the download "
                      "complete?)",
                      entry.n_bytes, entry.begin, data.size()));
    }
    if (!entry.has_known_size) entry.n_bytes = limit > entry.begin ? limit - entry.begin : 0;
    if (!is_last && entry.begin + entry.n_bytes > sorted[i + 1]->begin) {
      cursor.fail_here(fmt::format("its data overlaps tensor '{}'", printable_name(sorted[i + 1]->view.name)));
    }
    entry.view.data = data.subspan(entry.begin, entry.n_bytes);
  }
}

Shard parse_shard(const std::string& path) {
  Shard shard;
  shard.file = MappedFile::open(path);
  const std::span<const std::byte> bytes = shard.file->bytes();
  Cursor cursor(path, bytes);
  read_header(cursor, shard.version);
  // The counts come before both tables, so the first is checked against all that follows.
  const size_t n_tensors = cursor.read_count(kMinTensorBytes, "tensors");
  const size_t n_keys = cursor.read_count(kMinKeyBytes, "keys");
  read_keys(cursor, n_keys, shard);

  std::vector<Entry> entries;
  for (size_t i = 0; i < n_tensors; ++i) {
    cursor.set_context(fmt::format("tensor {} of {}", i + 1, n_tensors));
    entries.push_back(read_tensor(cursor, shard.alignment));
  }
  const size_t padding = (shard.alignment - cursor.position() % shard.alignment) % shard.alignment;
  const size_t data_begin = std::min(bytes.size(), cursor.position() + padding);
  place_tensors(cursor, entries, bytes.subspan(data_begin));
  shard.tensors.reserve(entries.size());
  for (Entry& entry : entries) {
    entry.view.file = shard.file.get();
    shard.tensors.push_back(std::move(entry.view));
  }
  return shard;
}

// An optional key of a shard that counts something.
int64_t split_number(const Shard& shard, const std::string& key, int64_t max) {
  const auto entry = shard.values.find(key);
  if (entry == shard.values.end()) return -1;
  const GgufValue& value = entry->second;
  if (scalar_bytes(value.type) == 0 || value.integer < 0 || value.integer > max) {
    fail(ErrorCode::kCorruptData, "[gguf] {}: key '{}': got {} {}, expected an integer in [0, {}]", shard.file->path(),
         key, gguf_type_name(value.type), value.integer, max);
  }
  return value.integer;
}

constexpr int64_t kMaxShards = 65535;

std::string shard_path(const std::string& prefix, int64_t number, int64_t count) {
  return fmt::format("{}-{:05}-of-{:05}.gguf", prefix, number + 1, count);
}

// All shards of the set that `first_opened` (at `path`) belongs to, in order.
std::vector<Shard> open_set(const std::string& path, Shard first_opened, int64_t count) {
  const int64_t number = split_number(first_opened, "split.no", kMaxShards);
  const std::string suffix = shard_path("", number, count);
  if (number < 0 || number >= count || !path.ends_with(suffix)) {
    fail(ErrorCode::kCorruptData,
         "[gguf] {}: is number {} of {} files (split.no, split.count); expected a name that ends in {}", path,
         number + 1, count, suffix);
  }
  const std::string prefix = path.substr(0, path.size() - suffix.size());
  std::vector<Shard> shards;
  for (int64_t i = 0; i < count; ++i) {
    if (i == number) {
      shards.push_back(std::move(first_opened));  // NOLINT(bugprone-use-after-move): i is number once
      continue;
    }
    const std::string other = shard_path(prefix, i, count);
    if (!file_exists(other)) {
      fail(ErrorCode::kNotFound, "[gguf] {}: is one of {} files, but {} is missing", path, count, other);
    }
    shards.push_back(parse_shard(other));
    if (split_number(shards.back(), "split.no", kMaxShards) != i ||
        split_number(shards.back(), "split.count", kMaxShards) != count) {
      fail(ErrorCode::kCorruptData, "[gguf] {}: split.no or split.count differ from its name and from {}", other, path);
    }
  }
  return shards;
}

}  // namespace

const char* gguf_type_name(GgufType type) {
  constexpr const char* kNames[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                    "bool", "string", "array", "u64", "i64", "f64"};
  const auto index = static_cast<size_t>(type);
  return index < std::size(kNames) ? kNames[index] : "unknown";
}

std::shared_ptr<GgufFile> GgufFile::open(const std::string& path) {
  std::vector<Shard> shards;
  shards.push_back(parse_shard(path));
  const int64_t count = split_number(shards.front(), "split.count", kMaxShards);
  if (count > 1) {
    Shard opened = std::move(shards.front());
    shards = open_set(path, std::move(opened), count);
  }

  std::shared_ptr<GgufFile> result(new GgufFile());
  result->path_ = path;
  result->version_ = shards.front().version;
  result->alignment_ = shards.front().alignment;
  result->keys_ = std::move(shards.front().keys);
  const int64_t n_expected = split_number(shards.front(), "split.tensors.count", INT64_MAX);
  result->values_ = std::move(shards.front().values);
  for (Shard& shard : shards) {
    result->files_.push_back(std::move(shard.file));
    result->tensors_.insert(result->tensors_.end(), std::make_move_iterator(shard.tensors.begin()),
                            std::make_move_iterator(shard.tensors.end()));
  }
  if (count > 1 && n_expected >= 0 && static_cast<size_t>(n_expected) != result->tensors_.size()) {
    fail(ErrorCode::kCorruptData, "[gguf] {}: the files hold {} tensors, expected {} (split.tensors.count)", path,
         result->tensors_.size(), n_expected);
  }
  result->build_index();
  return result;
}

void GgufFile::check_unchanged() const {
  for (const auto& file : files_) file->check_unchanged();
}

const GgufValue* GgufFile::find_key(std::string_view key) const {
  const auto entry = values_.find(std::string(key));
  return entry == values_.end() ? nullptr : &entry->second;
}

}  // namespace mobilellm
