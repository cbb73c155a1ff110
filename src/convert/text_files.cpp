// Copying, writing and rebuilding of tokenizer files.
#include "convert/text_files.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <optional>
#include <utility>

#include "base/error.h"
#include "base/files.h"
#include "base/mapped_file.h"
#include "base/output_file.h"
#include "base/utf8.h"
#include "convert/target_config.h"
#include "model/loader.h"
#include "tokenizer/export.h"

namespace mobilellm {
namespace {

constexpr std::array kCopiedNames = {
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "tiktoken.model",
    "chat_template.json",
    "generation_config.json",
    "README.md",
    "NOTICE",
    "USE_POLICY.md",
};

bool is_copied(const std::string& name) {
  return std::find(kCopiedNames.begin(), kCopiedNames.end(), name) != kCopiedNames.end() || name.ends_with(".jinja") ||
         name.ends_with(".tiktoken") || name.starts_with("LICENSE");
}

void copy_file(const std::string& from, const std::string& to) {
  const auto source = MappedFile::open(from);
  OutputFile target(to);
  target.write(source->bytes());
  target.close();
  source->check_unchanged();
}

/// Text of a special token in tokenizer_config.json: a string or an object with `content`.
std::optional<std::string> special_text(const Json& config, const char* key) {
  const Json* value = config.find(key);
  if (value != nullptr && value->is_object()) value = value->find("content");
  if (value == nullptr || !value->is_string()) return std::nullopt;
  return value->as_string();
}

std::vector<int64_t> end_ids(const CheckpointDir& source, const ModelSpec& spec) {
  const Json* value = source.generation_config.find("eos_token_id");
  if (value == nullptr || value->is_null()) return spec.eos_ids;
  JsonObjectReader reader(source.generation_config, source.generation_config_path);
  return read_token_ids(reader, "eos_token_id");
}

void set_id(GgufMetadata& metadata, const std::string& name, std::optional<int64_t> id) {
  if (id && *id >= 0) metadata.set("tokenizer.ggml." + name + "_token_id", static_cast<uint32_t>(*id));
}

/// The main end token and those of turns and messages, for which readers have keys of their own.
void set_end_ids(const CheckpointDir& source, const ModelSpec& spec, const Tokenizer& tokenizer, GgufVocab& vocab,
                 GgufMetadata& metadata) {
  std::vector<int64_t> ids = end_ids(source, spec);
  if (const auto text = special_text(source.tokenizer_config, "eos_token")) {
    if (const auto id = tokenizer.find(*text)) vocab.eos_id = *id;
  }
  if (!vocab.eos_id && !ids.empty()) vocab.eos_id = ids.front();
  std::erase_if(ids, [&](int64_t id) { return vocab.eos_id && id == *vocab.eos_id; });
  set_id(metadata, "eos", vocab.eos_id);
  const auto take = [&](const char* key, std::initializer_list<const char*> texts) {
    for (const char* text : texts) {
      const auto id = tokenizer.find(text);
      const auto found = id ? std::find(ids.begin(), ids.end(), *id) : ids.end();
      if (found == ids.end()) continue;
      set_id(metadata, key, *found);
      ids.erase(found);
      return;
    }
    if (ids.empty()) return;
    set_id(metadata, key, ids.front());
    ids.erase(ids.begin());
  };
  take("eot", {"<|eot_id|>", "<|im_end|>", "<end_of_turn>"});
  take("eom", {"<|eom_id|>"});
}

Json bos_and_eos(const ModelSpec& spec) {
  Json config = Json::object();
  if (spec.bos_id >= 0) config.set("bos_token_id", spec.bos_id);
  if (spec.eos_ids.size() == 1) config.set("eos_token_id", spec.eos_ids[0]);
  if (spec.eos_ids.size() > 1) {
    Json ids = Json::array();
    for (const int64_t id : spec.eos_ids) ids.push(id);
    config.set("eos_token_id", std::move(ids));
  }
  return config;
}

Json tokenizer_config(const GgufVocab& vocab, const ModelSpec& spec) {
  Json config = Json::object();
  config.set("tokenizer_class", "PreTrainedTokenizerFast");
  const auto set_token = [&](const char* key, std::optional<int64_t> id) {
    if (id && *id >= 0 && static_cast<size_t>(*id) < vocab.tokens.size()) {
      config.set(key, vocab.tokens[static_cast<size_t>(*id)]);
    }
  };
  set_token("bos_token", vocab.bos_id);
  set_token("eos_token", vocab.eos_id);
  set_token("pad_token", vocab.padding_id);
  set_token("unk_token", vocab.unk_id);
  return config.set("clean_up_tokenization_spaces", false).set("model_max_length", spec.max_context);
}

void write_json(const StagedOutput& target, const char* name, const Json& value) {
  write_file(target.file(name), value.dump_pretty() + "\n");
}

void write_generation_config(const GgufFile& file, const ModelSpec& spec, const StagedOutput& target) {
  const GgufValue* carried = file.find_key(kGgufGenerationKey);
  if (carried != nullptr && carried->type == GgufType::kString) {
    const Json config = Json::parse(carried->text, file.path() + ": " + kGgufGenerationKey);
    if (config.is_object()) return write_json(target, "generation_config.json", config);
  }
  write_json(target, "generation_config.json", bos_and_eos(spec));
}

}  // namespace

void copy_text_files(const CheckpointDir& source, const StagedOutput& target) {
  std::error_code error;
  for (std::filesystem::directory_iterator entry(source.path, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (!is_copied(name) || !is_plain_file_name(name)) continue;
    const std::string path = join_path(source.path, name);
    if (file_exists(path)) copy_file(path, target.file(name));
  }
  if (error) fail(ErrorCode::kIo, "[convert] cannot list {}: {}", source.path, error.message());
}

void write_gguf_text(const CheckpointDir& source, const ModelSpec& spec, GgufMetadata& metadata,
                     std::vector<std::string>& notes) {
  const LoadedText text = load_text_parts(source.path);
  if (text.tokenizer == nullptr) {
    set_id(metadata, "bos", spec.bos_id);
    const std::vector<int64_t> ids = end_ids(source, spec);
    if (!ids.empty()) set_id(metadata, "eos", ids.front());
    notes.push_back("the source has no tokenizer, so the file has none; most programs refuse such a file");
  } else {
    const Tokenizer& tokenizer = *text.tokenizer;
    if (tokenizer.vocab_size() > static_cast<size_t>(spec.vocab_size)) {
      fail(ErrorCode::kUnsupported, "[convert] {}: the tokenizer has ids up to {}, the model takes 0 to {}",
           source.path, tokenizer.vocab_size() - 1, spec.vocab_size - 1);
    }
    std::optional<GgufVocab> exact = make_gguf_vocab(tokenizer, static_cast<size_t>(spec.vocab_size));
    GgufVocab vocab =
        exact ? std::move(*exact) : make_nearest_gguf_vocab(tokenizer, static_cast<size_t>(spec.vocab_size));
    metadata.set("tokenizer.ggml.model", vocab.model);
    metadata.set("tokenizer.ggml.pre", vocab.pre);
    metadata.set("tokenizer.ggml.tokens", std::move(vocab.tokens));
    if (!vocab.scores.empty()) metadata.set("tokenizer.ggml.scores", std::move(vocab.scores));
    metadata.set("tokenizer.ggml.token_type", std::move(vocab.token_types));
    if (!vocab.merges.empty()) metadata.set("tokenizer.ggml.merges", std::move(vocab.merges));
    if (!vocab.bos_id && spec.bos_id >= 0) vocab.bos_id = spec.bos_id;
    set_id(metadata, "bos", vocab.bos_id);
    set_end_ids(source, spec, tokenizer, vocab, metadata);
    set_id(metadata, "unknown", vocab.unk_id);
    if (const auto pad = special_text(source.tokenizer_config, "pad_token")) {
      if (const auto id = tokenizer.find(*pad)) set_id(metadata, "padding", *id);
    }
    metadata.set("tokenizer.ggml.add_bos_token", vocab.add_bos.value_or(false));
    metadata.set("tokenizer.ggml.add_eos_token", vocab.add_eos.value_or(false));
    if (vocab.add_space_prefix) metadata.set("tokenizer.ggml.add_space_prefix", *vocab.add_space_prefix);
    if (!exact) {
      if (!source.tokenizer_json_path.empty()) {
        constexpr size_t kMaxTokenizerBytes = size_t{256} << 20;
        metadata.set(kGgufTokenizerKey, read_file(source.tokenizer_json_path, kMaxTokenizerBytes));
      }
      notes.push_back(
          "GGUF has no name for what this tokenizer does; the file carries it whole, but other programs will split "
          "some texts in another way");
    }
  }
  if (text.chat_template != nullptr) metadata.set("tokenizer.chat_template", text.chat_template->source());
}

void write_folder_text(const CheckpointDir& source, const ModelSpec& spec, const StagedOutput& target,
                       std::vector<std::string>& notes) {
  const GgufFile& file = *source.gguf;
  write_generation_config(file, spec, target);
  const LoadedText text = load_text_parts(source.path);
  if (text.chat_template != nullptr) write_file(target.file("chat_template.jinja"), text.chat_template->source());
  if (text.tokenizer == nullptr) {
    notes.push_back("the file has no tokenizer, so the folder has none");
    return;
  }
  const GgufVocab vocab = read_gguf_vocab(file);
  const GgufValue* carried = file.find_key(kGgufTokenizerKey);
  const std::string json = carried != nullptr && carried->type == GgufType::kString
                               ? std::string(carried->text)
                               : make_tokenizer_json(vocab, file.path());
  const auto rebuilt = load_tokenizer_json_text(json, "the new tokenizer.json");
  if (const auto difference = first_encoding_difference(*rebuilt, *text.tokenizer)) {
    notes.push_back(fmt::format("tokenizer.json splits some texts in another way than the file did, such as '{}'",
                                difference->substr(0, 40)));
  }
  write_file(target.file("tokenizer.json"), json);
  write_json(target, "tokenizer_config.json", tokenizer_config(vocab, spec));
}

}  // namespace mobilellm
