// Finding what a model path holds.
#include "formats/checkpoint_dir.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <optional>

#include "base/error.h"
#include "base/files.h"
#include "formats/safetensors.h"

namespace mobilellm {
namespace {

constexpr size_t kMaxConfigBytes = size_t{64} << 20;
constexpr size_t kMaxFolderEntries = 100'000;

// Whether opening reads this name of a model folder, so that something else in its place is an error.
bool is_model_file_name(std::string_view name) {
  for (const std::string_view suffix : {".json", ".safetensors", ".gguf", ".jinja", ".model", ".tiktoken"}) {
    if (name.size() > suffix.size() && name.substr(name.size() - suffix.size()) == suffix) return true;
  }
  return false;
}

// Names of the regular files of a folder, sorted. A FIFO, device, folder or broken link under a name that matters is an
// error: without it the model would silently be another one.
std::vector<std::string> list_files(const std::string& path) {
  std::vector<std::string> names;
  std::error_code error;
  std::filesystem::directory_iterator iterator(path, error);
  for (; !error && iterator != std::filesystem::directory_iterator(); iterator.increment(error)) {
    if (names.size() == kMaxFolderEntries) {
      fail(ErrorCode::kResourceLimit, "[model] {}: more than {} files in one folder", path, kMaxFolderEntries);
    }
    names.push_back(iterator->path().filename().string());
  }
  if (error) fail(ErrorCode::kIo, "[model] cannot list {}: {}", path, error.message());
  std::erase_if(names, [&](const std::string& name) {
    if (file_exists(join_path(path, name))) return false;
    if (is_model_file_name(name)) {
      fail(ErrorCode::kIo, "[model] {} is not a regular file (a folder, FIFO, device or broken link)",
           join_path(path, printable_name(name)));
    }
    return true;
  });
  std::sort(names.begin(), names.end());
  return names;
}

bool contains(const std::vector<std::string>& names, std::string_view name) {
  return std::binary_search(names.begin(), names.end(), name, std::less<>());
}

std::string join_names(const std::vector<std::string>& names) {
  constexpr size_t kMaxShown = 8;
  std::string text;
  for (size_t i = 0; i < std::min(names.size(), kMaxShown); ++i) {
    if (i > 0) text += ", ";
    text += printable_name(names[i]);
  }
  if (names.size() > kMaxShown) text += ", ...";
  return text;
}

Json read_config(const std::string& path) {
  Json config = Json::parse_file(path, kMaxConfigBytes);
  if (!config.is_object()) {
    fail(ErrorCode::kCorruptData, "[config] {}: got {}, expected an object", path, config.type_name());
  }
  return config;
}

// The numbers of "PREFIX-00002-of-00003.EXT".
struct ShardName {
  std::string prefix;
  int number = 0;
  int count = 0;
};

std::optional<ShardName> parse_shard_name(std::string_view name, std::string_view extension) {
  constexpr size_t kDigits = 5;
  constexpr std::string_view kOf = "-of-";
  constexpr size_t kTail = 1 + kDigits + kOf.size() + kDigits;
  if (!name.ends_with(extension)) return std::nullopt;
  name.remove_suffix(extension.size());
  if (name.size() <= kTail) return std::nullopt;
  const std::string_view tail = name.substr(name.size() - kTail);
  ShardName result;
  result.prefix = name.substr(0, name.size() - kTail);
  const auto read = [](std::string_view digits, int& out) {
    const auto [end, code] = std::from_chars(digits.data(), digits.data() + digits.size(), out);
    return code == std::errc() && end == digits.data() + digits.size() && out >= 0;
  };
  if (tail[0] != '-' || tail.substr(1 + kDigits, kOf.size()) != kOf || !read(tail.substr(1, kDigits), result.number) ||
      !read(tail.substr(1 + kDigits + kOf.size()), result.count)) {
    return std::nullopt;
  }
  return result;
}

// Weight files without an index: those that mlx-lm and the older MLX converters write.
std::shared_ptr<WeightSource> open_loose_shards(const std::string& folder, const std::vector<std::string>& names) {
  std::vector<std::string> shards;
  for (const std::string& name : names) {
    const bool is_weights = name.starts_with("model") || name.starts_with("weights");
    if (is_weights && name.ends_with(".safetensors")) shards.push_back(name);
  }
  if (shards.empty()) return nullptr;
  for (const std::string& name : shards) {
    const std::optional<ShardName> shard = parse_shard_name(name, ".safetensors");
    if (!shard) continue;
    for (int i = 1; i <= shard->count; ++i) {
      const std::string expected = fmt::format("{}-{:05}-of-{:05}.safetensors", shard->prefix, i, shard->count);
      if (!contains(shards, expected)) {
        fail(ErrorCode::kNotFound, "[model] {}: the shard {} is missing; download it again", folder,
             printable_name(expected));
      }
    }
  }
  for (std::string& name : shards) name = join_path(folder, name);
  return open_safetensors_shards(shards);
}

std::shared_ptr<WeightSource> open_safetensors_folder(const std::string& folder,
                                                      const std::vector<std::string>& names) {
  if (contains(names, "model.safetensors")) return open_safetensors(join_path(folder, "model.safetensors"));
  if (contains(names, "model.safetensors.index.json")) {
    return open_safetensors_index(join_path(folder, "model.safetensors.index.json"));
  }
  return open_loose_shards(folder, names);
}

// The one GGUF file (or first shard) of a folder; nothing when there is none.
std::optional<std::string> find_gguf(const std::string& folder, const std::vector<std::string>& names) {
  std::vector<std::string> found;
  for (const std::string& name : names) {
    if (!name.ends_with(".gguf")) continue;
    const std::optional<ShardName> shard = parse_shard_name(name, ".gguf");
    // The other shards are found from the first; without a first, any of them leads to the error that names it.
    const std::string first = shard ? fmt::format("{}-00001-of-{:05}.gguf", shard->prefix, shard->count) : name;
    if (shard && shard->number != 1 && contains(names, first)) continue;
    found.push_back(name);
  }
  if (found.size() > 1) {
    fail(ErrorCode::kInvalidArgument, "[model] {}: holds {} GGUF models ({}); name one of them", folder, found.size(),
         join_names(found));
  }
  if (found.empty()) return std::nullopt;
  return join_path(folder, found.front());
}

std::vector<std::string> find_pickles(const std::vector<std::string>& names) {
  std::vector<std::string> found;
  for (const std::string& name : names) {
    for (const char* extension : {".bin", ".pt", ".pth", ".ckpt"}) {
      if (name.ends_with(extension)) found.push_back(name);
    }
  }
  return found;
}

void find_tokenizer_files(const std::string& folder, const std::vector<std::string>& names, CheckpointDir& result) {
  const auto find = [&](const char* name) { return contains(names, name) ? join_path(folder, name) : std::string(); };
  result.tokenizer_json_path = find("tokenizer.json");
  result.tokenizer_model_path = find("tokenizer.model");
  result.tiktoken_path = find("tiktoken.model");
  result.vocab_json_path = find("vocab.json");
  result.merges_path = find("merges.txt");
  result.chat_template_path = find("chat_template.jinja");
  result.chat_template_json_path = find("chat_template.json");
  if (!result.tiktoken_path.empty()) return;
  for (const std::string& name : names) {
    if (name.ends_with(".tiktoken")) result.tiktoken_path = join_path(folder, name);
  }
}

bool has_tokenizer(const CheckpointDir& result) {
  return !result.tokenizer_json_path.empty() || !result.tokenizer_model_path.empty() || !result.tiktoken_path.empty() ||
         !result.vocab_json_path.empty();
}

void read_configs(const std::string& folder, const std::vector<std::string>& names, CheckpointDir& result) {
  const auto read = [&](const char* name, Json& config) {
    if (!contains(names, name)) return std::string();
    std::string path = join_path(folder, name);
    config = read_config(path);
    return path;
  };
  result.config_path = read("config.json", result.config);
  result.generation_config_path = read("generation_config.json", result.generation_config);
  result.tokenizer_config_path = read("tokenizer_config.json", result.tokenizer_config);
  read("special_tokens_map.json", result.special_tokens_map);
}

void open_gguf(const std::string& path, CheckpointDir& result) {
  result.gguf = GgufFile::open(path);
  result.weights = result.gguf;
}

[[noreturn]] void fail_no_weights(const std::string& folder, const std::vector<std::string>& names) {
  const std::vector<std::string> pickles = find_pickles(names);
  if (!pickles.empty()) {
    fail(ErrorCode::kUnsupported,
         "[model] {}: the weights are pickled ({}), which can run code and is never read; convert them to safetensors, "
         "for example in Python with transformers: "
         "AutoModelForCausalLM.from_pretrained(\"{}\").save_pretrained(\"OUT\", safe_serialization=True)",
         folder, join_names(pickles), folder);
  }
  fail(ErrorCode::kNotFound,
       "[model] {}: no weights; looked for model.safetensors, model.safetensors.index.json, model*.safetensors, "
       "weights*.safetensors and *.gguf",
       folder);
}

void open_folder(const std::string& folder, WeightsNeed need, CheckpointDir& result) {
  const std::vector<std::string> names = list_files(folder);
  find_tokenizer_files(folder, names, result);
  const bool has_config = contains(names, "config.json");
  if (!has_config || need != WeightsNeed::kNone) {
    std::shared_ptr<WeightSource> weights;
    if (has_config && need != WeightsNeed::kNone) weights = open_safetensors_folder(folder, names);
    if (weights == nullptr) {
      if (const std::optional<std::string> gguf = find_gguf(folder, names)) return open_gguf(*gguf, result);
    }
    result.weights = std::move(weights);
  }
  read_configs(folder, names, result);
  if (need == WeightsNeed::kRequired) {
    if (result.weights == nullptr && has_config) fail_no_weights(folder, names);
    if (!has_config) {
      fail(ErrorCode::kNotFound, "[model] {}: not a model folder; looked for config.json and for *.gguf", folder);
    }
  } else if (!has_config && !has_tokenizer(result)) {
    fail(ErrorCode::kNotFound,
         "[model] {}: neither a model nor a tokenizer; looked for config.json, tokenizer.json, tokenizer.model, "
         "vocab.json and *.gguf",
         folder);
  }
}

}  // namespace

CheckpointDir open_checkpoint(const std::string& path, WeightsNeed need) {
  CheckpointDir result;
  result.path = path;
  if (directory_exists(path)) {
    open_folder(path, need, result);
  } else if (path.ends_with(".gguf")) {
    open_gguf(path, result);
  } else {
    std::error_code error;
    const bool exists = std::filesystem::exists(std::filesystem::symlink_status(path, error));
    if (!exists) fail(ErrorCode::kNotFound, "[model] {}: no such file or folder", path);
    fail(ErrorCode::kInvalidArgument, "[model] {}: expected a model folder or a .gguf file", path);
  }
  return result;
}

}  // namespace mobilellm
