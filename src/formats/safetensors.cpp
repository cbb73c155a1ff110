// Reader of safetensors files: the header is walked once with simdjson, the data is checked to be covered exactly.
//
// A file is an 8-byte little-endian header length, a JSON object and the data:
//   {"NAME": {"dtype": "BF16", "shape": [4, 8], "data_offsets": [0, 64]}, ..., "__metadata__": {"format": "pt"}}
#include "formats/safetensors.h"

#include <simdjson.h>

#include <algorithm>
#include <cstring>
#include <unordered_set>

#include "base/error.h"
#include "base/files.h"
#include "base/json.h"
#include "base/mapped_file.h"

namespace mobilellm {
namespace {

constexpr uint64_t kMaxHeaderBytes = 100'000'000;
constexpr size_t kLengthBytes = 8;
constexpr size_t kMaxDimensions = 16;
constexpr std::string_view kMetadataKey = "__metadata__";

using Metadata = std::vector<std::pair<std::string, std::string>>;

struct ParsedFile {
  std::shared_ptr<const MappedFile> file;
  std::vector<TensorView> tensors;  ///< In header order.
  Metadata metadata;
};

[[noreturn]] void fail_header(const std::string& path, std::string_view problem) {
  fail(ErrorCode::kCorruptData, "[safetensors] {}: {}", path, problem);
}

[[noreturn]] void fail_tensor(const std::string& path, std::string_view name, std::string_view problem) {
  fail(ErrorCode::kCorruptData, "[safetensors] {}: tensor '{}': {}", path, printable_name(name), problem);
}

bool is_scalar_type(DType dtype) { return !is_block_dtype(dtype); }

// One entry of the header; data is set later, when all ranges are known to be sound.
struct Entry {
  TensorView view;
  uint64_t begin = 0;
  uint64_t end = 0;
};

class HeaderWalker {
 public:
  HeaderWalker(const std::string& path, std::string_view header) : path_(path), text_(header) {}

  void walk(std::vector<Entry>& entries, Metadata& metadata) {
    try {
      simdjson::ondemand::parser parser;
      simdjson::ondemand::document document = parser.iterate(text_);
      for (simdjson::ondemand::field field : document.get_object()) {
        current_ = std::string_view(field.unescaped_key());
        if (current_ == kMetadataKey) {
          read_metadata(field.value(), metadata);
        } else {
          entries.push_back(read_entry(field.value()));
        }
      }
      const char* rest = nullptr;
      if (document.current_location().get(rest) == simdjson::SUCCESS) {
        fail_header(path_, "the header continues after its JSON object");
      }
    } catch (const simdjson::simdjson_error& error) {
      fail(ErrorCode::kCorruptData, "[safetensors] {}: the header is not valid JSON of the format, near '{}': {}",
           path_, printable_name(current_), error.what());
    }
  }

 private:
  void read_metadata(simdjson::ondemand::value value, Metadata& metadata) {
    if (has_metadata_) fail_header(path_, "__metadata__ appears twice");
    has_metadata_ = true;
    if (value.type() == simdjson::ondemand::json_type::null) {
      if (!value.is_null()) fail_header(path_, "__metadata__: expected an object of strings");
      return;
    }
    std::unordered_set<std::string> seen;
    for (simdjson::ondemand::field field : value.get_object()) {
      std::string key(std::string_view(field.unescaped_key()));
      if (!seen.insert(key).second) {
        fail_header(path_, fmt::format("__metadata__: key '{}' appears twice", printable_name(key)));
      }
      if (field.value().type() != simdjson::ondemand::json_type::string) {
        fail_header(path_, fmt::format("__metadata__: '{}': expected a string", printable_name(key)));
      }
      metadata.emplace_back(std::move(key), std::string(std::string_view(field.value().get_string())));
    }
  }

  Entry read_entry(simdjson::ondemand::value value) {
    Entry entry;
    entry.view.name = current_;
    bool has_dtype = false;
    bool has_shape = false;
    bool has_offsets = false;
    if (value.type() != simdjson::ondemand::json_type::object) fail_tensor(path_, current_, "expected an object");
    for (simdjson::ondemand::field field : value.get_object()) {
      const std::string_view key = field.unescaped_key();
      if (key == "dtype" && !has_dtype) {
        has_dtype = true;
        read_dtype(field.value(), entry.view);
      } else if (key == "shape" && !has_shape) {
        has_shape = true;
        read_shape(field.value(), entry.view);
      } else if (key == "data_offsets" && !has_offsets) {
        has_offsets = true;
        read_offsets(field.value(), entry);
      } else {
        fail_tensor(path_, current_, fmt::format("key '{}' is unknown or appears twice", printable_name(key)));
      }
    }
    if (!has_dtype) fail_tensor(path_, current_, "dtype is missing");
    if (!has_shape) fail_tensor(path_, current_, "shape is missing");
    if (!has_offsets) fail_tensor(path_, current_, "data_offsets is missing");
    return entry;
  }

  void read_dtype(simdjson::ondemand::value value, TensorView& view) {
    if (value.type() != simdjson::ondemand::json_type::string) fail_tensor(path_, current_, "dtype: expected a string");
    const std::string_view name = value.get_string();
    const std::optional<DType> dtype = find_dtype(name);
    if (!dtype || !is_scalar_type(*dtype)) {
      fail(ErrorCode::kUnsupported,
           "[safetensors] {}: tensor '{}': dtype: got '{}', expected BOOL, U8, I8, F8_E4M3, F8_E5M2, I16, U16, F16, "
           "BF16, "
           "I32, U32, F32, I64, U64 or F64",
           path_, printable_name(current_), printable_name(name));
    }
    view.dtype = *dtype;
  }

  void read_shape(simdjson::ondemand::value value, TensorView& view) {
    if (value.type() != simdjson::ondemand::json_type::array) fail_tensor(path_, current_, "shape: expected an array");
    for (simdjson::ondemand::value dimension : value.get_array()) {
      if (view.shape.size() == kMaxDimensions) {
        fail_tensor(path_, current_, fmt::format("shape: more than {} dimensions", kMaxDimensions));
      }
      const uint64_t size = read_size(dimension, "shape");
      if (size > static_cast<uint64_t>(INT64_MAX))
        fail_tensor(path_, current_, fmt::format("shape: {} is too large", size));
      view.shape.push_back(static_cast<int64_t>(size));
    }
  }

  void read_offsets(simdjson::ondemand::value value, Entry& entry) {
    if (value.type() != simdjson::ondemand::json_type::array) {
      fail_tensor(path_, current_, "data_offsets: expected an array of 2");
    }
    uint64_t offsets[2] = {0, 0};
    size_t n = 0;
    for (simdjson::ondemand::value offset : value.get_array()) {
      if (n == 2) fail_tensor(path_, current_, "data_offsets: expected 2 numbers, got more");
      offsets[n++] = read_size(offset, "data_offsets");
    }
    if (n != 2) fail_tensor(path_, current_, fmt::format("data_offsets: expected 2 numbers, got {}", n));
    entry.begin = offsets[0];
    entry.end = offsets[1];
  }

  uint64_t read_size(simdjson::ondemand::value value, std::string_view key) {
    uint64_t size = 0;
    if (value.get_uint64().get(size) != simdjson::SUCCESS) {
      fail_tensor(path_, current_, fmt::format("{}: expected integers in [0, 2^64)", key));
    }
    return size;
  }

  const std::string& path_;
  simdjson::padded_string text_;
  std::string current_;  // Key of the entry being read, for messages.
  bool has_metadata_ = false;
};

// Checks each range against its shape, and all together against the data: no overlap, no gap, no rest.
void check_ranges(const std::string& path, const std::vector<Entry>& entries, uint64_t n_data) {
  std::vector<const Entry*> sorted;
  sorted.reserve(entries.size());
  for (const Entry& entry : entries) {
    const TensorView& view = entry.view;
    if (entry.begin > entry.end || entry.end > n_data) {
      fail_tensor(path, view.name,
                  fmt::format("data_offsets: got [{}, {}], expected an ordered range inside the {} bytes of data",
                              entry.begin, entry.end, n_data));
    }
    const int64_t n_values = checked_n_values(view.shape, fmt::format("{}: '{}'", path, printable_name(view.name)));
    uint64_t n_bytes = 0;
    if (__builtin_mul_overflow(static_cast<uint64_t>(n_values), uint64_t{dtype_info(view.dtype).block_bytes},
                               &n_bytes) ||
        n_bytes != entry.end - entry.begin) {
      fail_tensor(path, view.name,
                  fmt::format("data_offsets: got {} bytes, expected {} values of type {} for shape {}",
                              entry.end - entry.begin, n_values, view.type_name(), shape_text(view.shape)));
    }
    sorted.push_back(&entry);
  }
  std::sort(sorted.begin(), sorted.end(), [](const Entry* a, const Entry* b) {
    return a->begin != b->begin ? a->begin < b->begin : a->end < b->end;
  });
  uint64_t covered = 0;
  for (const Entry* entry : sorted) {
    if (entry->begin != covered) {
      fail_tensor(path, entry->view.name,
                  fmt::format("data_offsets: got a range from byte {}, expected {}: tensors {}", entry->begin, covered,
                              entry->begin < covered ? "overlap" : "leave a gap"));
    }
    covered = entry->end;
  }
  if (covered != n_data) {
    fail_header(path, fmt::format("the tensors cover {} of the {} bytes of data", covered, n_data));
  }
}

ParsedFile parse_file(const std::string& path) {
  ParsedFile parsed;
  parsed.file = MappedFile::open(path);
  const std::span<const std::byte> bytes = parsed.file->bytes();
  if (bytes.size() < kLengthBytes) {
    fail_header(path, fmt::format("got {} bytes, expected a header length of {} bytes", bytes.size(), kLengthBytes));
  }
  uint64_t n_header = 0;
  std::memcpy(&n_header, bytes.data(), kLengthBytes);
  const uint64_t rest = bytes.size() - kLengthBytes;
  if (n_header < 2 || n_header > kMaxHeaderBytes || n_header > rest) {
    fail_header(path,
                fmt::format("header length: got {}, expected 2 to {} and at most the {} bytes that follow (is the "
                            "download complete?)",
                            n_header, kMaxHeaderBytes, rest));
  }
  const std::string_view header(reinterpret_cast<const char*>(bytes.data()) + kLengthBytes, n_header);
  if (header.front() != '{') fail_header(path, "the header does not start with '{'");

  std::vector<Entry> entries;
  HeaderWalker(path, header).walk(entries, parsed.metadata);
  const std::span<const std::byte> data = bytes.subspan(kLengthBytes + n_header);
  check_ranges(path, entries, data.size());

  std::unordered_set<std::string_view> names;
  names.reserve(entries.size());
  for (const Entry& entry : entries) {
    if (!names.insert(entry.view.name).second) fail_tensor(path, entry.view.name, "the name appears twice");
  }
  parsed.tensors.reserve(entries.size());
  for (Entry& entry : entries) {
    entry.view.data = data.subspan(entry.begin, entry.end - entry.begin);
    entry.view.file = parsed.file.get();
    parsed.tensors.push_back(std::move(entry.view));
  }
  return parsed;
}

class Files final : public SafetensorsSource {
 public:
  explicit Files(std::string path) : path_(std::move(path)) {}

  const std::vector<TensorView>& tensors() const override { return tensors_; }
  std::string path() const override { return path_; }
  const Metadata& metadata() const override { return metadata_; }
  void check_unchanged() const override {
    for (const auto& file : files_) file->check_unchanged();
  }

  void add(ParsedFile parsed) {
    if (files_.empty()) metadata_ = std::move(parsed.metadata);
    files_.push_back(std::move(parsed.file));
    tensors_.insert(tensors_.end(), std::make_move_iterator(parsed.tensors.begin()),
                    std::make_move_iterator(parsed.tensors.end()));
  }
  void finish() { build_index(); }

 private:
  std::string path_;
  std::vector<std::shared_ptr<const MappedFile>> files_;
  std::vector<TensorView> tensors_;
  Metadata metadata_;
};

// A shard must lie beside its index, so its name has no parts.
void check_shard_name(const std::string& index_path, std::string_view tensor, std::string_view shard) {
  const bool has_bad_character = std::any_of(shard.begin(), shard.end(), [](char c) {
    return c == '/' || c == '\\' || c == ':' || static_cast<unsigned char>(c) < 0x20 || c == 0x7F;
  });
  if (has_bad_character || shard.size() > 255 || !shard.ends_with(".safetensors")) {
    fail(ErrorCode::kCorruptData,
         "[safetensors] {}: weight_map.{}: got '{}', expected the name of a .safetensors file in the same folder",
         index_path, printable_name(tensor), printable_name(shard));
  }
}

ParsedFile parse_shard(const std::string& index_path, const std::string& shard) {
  try {
    return parse_file(join_path(parent_directory(index_path), shard));
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kNotFound) throw;
    fail(ErrorCode::kNotFound, "[safetensors] {}: the shard {} is missing; download it again", index_path,
         printable_name(shard));
  }
}

}  // namespace

const std::string* SafetensorsSource::find_metadata(std::string_view key) const {
  for (const auto& [name, value] : metadata()) {
    if (name == key) return &value;
  }
  return nullptr;
}

std::shared_ptr<SafetensorsSource> open_safetensors(const std::string& path) { return open_safetensors_shards({path}); }

std::shared_ptr<SafetensorsSource> open_safetensors_shards(const std::vector<std::string>& paths) {
  if (paths.empty()) fail(ErrorCode::kInvalidArgument, "[safetensors] no file was named");
  auto source = std::make_shared<Files>(paths.front());
  for (const std::string& path : paths) source->add(parse_file(path));
  source->finish();
  return source;
}

std::shared_ptr<SafetensorsSource> open_safetensors_index(const std::string& index_path) {
  const Json index = Json::parse_file(index_path);
  const Json* weight_map = index.find("weight_map");
  if (weight_map == nullptr || !weight_map->is_object() || weight_map->as_object().empty()) {
    fail(ErrorCode::kCorruptData, "[safetensors] {}: weight_map: expected an object of tensor names", index_path);
  }
  std::unordered_map<std::string_view, std::string_view> shard_of;
  std::unordered_set<std::string_view> shards_seen;
  std::vector<std::string> shards;
  for (const auto& [name, shard] : weight_map->as_object()) {
    if (!shard.is_string()) {
      fail(ErrorCode::kCorruptData, "[safetensors] {}: weight_map.{}: got {}, expected a string", index_path,
           printable_name(name), shard.type_name());
    }
    check_shard_name(index_path, name, shard.as_string());
    shard_of.emplace(name, shard.as_string());
    if (shards_seen.insert(shard.as_string()).second) shards.push_back(shard.as_string());
  }

  auto source = std::make_shared<Files>(index_path);
  for (const std::string& shard : shards) {
    ParsedFile parsed = parse_shard(index_path, shard);
    // The index decides when two shards hold tensors of one name.
    std::erase_if(parsed.tensors, [&](const TensorView& tensor) {
      const auto entry = shard_of.find(tensor.name);
      return entry != shard_of.end() && entry->second != shard;
    });
    source->add(std::move(parsed));
  }
  source->finish();
  for (const auto& [name, shard] : weight_map->as_object()) {
    if (source->find(name) == nullptr) {
      fail(ErrorCode::kCorruptData, "[safetensors] {}: tensor '{}' is not in its shard {}", index_path,
           printable_name(name), shard.as_string());
    }
  }
  return source;
}

}  // namespace mobilellm
