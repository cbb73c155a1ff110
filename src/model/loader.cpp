// Loading of whole models, and of tokenizer and template alone.
#include "model/loader.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/files.h"
#include "formats/checkpoint_dir.h"
#include "model/binding.h"
#include "model/checkpoint.h"

namespace mobilellm {
namespace {

constexpr size_t kMaxTemplateBytes = size_t{4} << 20;

/// Tokens that end an assistant's turn in the chat formats of the supported families.
constexpr const char* kEndOfTurnTokens[] = {"<|eot_id|>", "<|im_end|>", "<end_of_turn>"};

std::shared_ptr<const Tokenizer> load_tokenizer(const CheckpointDir& checkpoint) {
  if (!checkpoint.tokenizer_json_path.empty()) return load_tokenizer_json(checkpoint.tokenizer_json_path);
  if (!checkpoint.tokenizer_model_path.empty()) return load_tokenizer_model(checkpoint.tokenizer_model_path);
  if (!checkpoint.tiktoken_path.empty()) return load_tiktoken(checkpoint.tiktoken_path);
  if (checkpoint.is_gguf() && checkpoint.gguf->find_key(kGgufTokenizerKey) != nullptr) {
    return load_tokenizer_json_text(checkpoint.gguf->get_string(kGgufTokenizerKey),
                                    checkpoint.gguf->path() + ": " + kGgufTokenizerKey);
  }
  if (checkpoint.is_gguf() && checkpoint.gguf->find_key("tokenizer.ggml.model") != nullptr) {
    return load_gguf_vocab(read_gguf_vocab(*checkpoint.gguf), checkpoint.gguf->path());
  }
  return nullptr;
}

std::shared_ptr<const ChatTemplate> load_chat_template(const CheckpointDir& checkpoint) {
  if (!checkpoint.chat_template_path.empty()) {
    return ChatTemplate::parse(read_file(checkpoint.chat_template_path, kMaxTemplateBytes),
                               checkpoint.chat_template_path);
  }
  const Json* in_config = checkpoint.tokenizer_config.find("chat_template");
  if (in_config != nullptr && !in_config->is_null()) {
    return ChatTemplate::from_config(*in_config, checkpoint.tokenizer_config_path + ": chat_template");
  }
  if (!checkpoint.chat_template_json_path.empty()) {
    const Json file = Json::parse_file(checkpoint.chat_template_json_path, 2 * kMaxTemplateBytes);
    const Json* value = file.find("chat_template");
    if (value != nullptr && !value->is_null()) {
      return ChatTemplate::from_config(*value, checkpoint.chat_template_json_path);
    }
  }
  if (checkpoint.is_gguf() && checkpoint.gguf->find_key("tokenizer.chat_template") != nullptr) {
    return ChatTemplate::parse(std::string(checkpoint.gguf->get_string("tokenizer.chat_template")),
                               checkpoint.gguf->path() + ": tokenizer.chat_template");
  }
  return nullptr;
}

/// A token's text as tokenizer_config.json or special_tokens_map.json give it: a string or an object with `content`.
std::string special_token_text(const CheckpointDir& checkpoint, const char* key) {
  for (const Json* config : {&checkpoint.tokenizer_config, &checkpoint.special_tokens_map}) {
    const Json* value = config->find(key);
    if (value != nullptr && value->is_object()) value = value->find("content");
    if (value != nullptr && value->is_string()) return value->as_string();
  }
  return "";
}

LoadedText load_text(const CheckpointDir& checkpoint) {
  LoadedText text;
  text.tokenizer = load_tokenizer(checkpoint);
  text.chat_template = load_chat_template(checkpoint);
  text.bos_token = special_token_text(checkpoint, "bos_token");
  text.eos_token = special_token_text(checkpoint, "eos_token");
  if (!checkpoint.is_gguf() || text.tokenizer == nullptr) return text;
  const auto token_text = [&](const char* key) {
    if (checkpoint.gguf->find_key(key) == nullptr) return std::string();
    return std::string(text.tokenizer->token_text(static_cast<TokenId>(checkpoint.gguf->get_int(key, 0, kMaxVocab))));
  };
  if (text.bos_token.empty()) text.bos_token = token_text("tokenizer.ggml.bos_token_id");
  if (text.eos_token.empty()) text.eos_token = token_text("tokenizer.ggml.eos_token_id");
  return text;
}

GenerationDefaults read_generation_defaults(JsonObjectReader& config) {
  GenerationDefaults defaults;
  const auto get = [&](const char* key, double max) -> std::optional<double> {
    if (!config.has(key)) return std::nullopt;
    return config.get_number(key, 0, max);
  };
  defaults.temperature = get("temperature", 100);
  defaults.top_p = get("top_p", 1);
  defaults.min_p = get("min_p", 1);
  defaults.repetition_penalty = get("repetition_penalty", 100);
  if (config.has("top_k")) defaults.top_k = config.get_int("top_k", -1, kMaxVocab);
  // A file that says "greedy" without a temperature means it.
  if (!config.get_bool("do_sample", true) && !defaults.temperature) defaults.temperature = 0;
  return defaults;
}

void add_eos(ModelSpec& spec, std::optional<TokenId> id) {
  if (!id) return;
  if (std::find(spec.eos_ids.begin(), spec.eos_ids.end(), *id) == spec.eos_ids.end()) spec.eos_ids.push_back(*id);
}

void add_tokenizer_eos(ModelSpec& spec, const LoadedText& text) {
  if (text.tokenizer == nullptr) return;
  if (!text.eos_token.empty()) add_eos(spec, text.tokenizer->find(text.eos_token));
  for (const char* token : kEndOfTurnTokens) {
    const std::optional<TokenId> id = text.tokenizer->find(token);
    if (id && text.tokenizer->is_special(*id)) add_eos(spec, id);
  }
  if (spec.bos_id < 0 && text.tokenizer->bos_id()) spec.bos_id = *text.tokenizer->bos_id();
}

}  // namespace

GgufVocab read_gguf_vocab(const GgufFile& file) {
  GgufVocab vocab;
  vocab.model = file.get_string("tokenizer.ggml.model");
  vocab.pre = file.get_string("tokenizer.ggml.pre", "");
  const auto copy_strings = [&](const char* key, std::vector<std::string>& out) {
    if (file.find_key(key) == nullptr) return;
    const std::vector<std::string_view>& strings = file.get_strings(key);
    out.assign(strings.begin(), strings.end());
  };
  copy_strings("tokenizer.ggml.tokens", vocab.tokens);
  copy_strings("tokenizer.ggml.merges", vocab.merges);
  if (file.find_key("tokenizer.ggml.token_type") != nullptr) {
    for (const int64_t type : file.get_ints("tokenizer.ggml.token_type")) {
      if (type < 0 || type > 255) {
        fail(ErrorCode::kCorruptData, "[tokenizer] {}: tokenizer.ggml.token_type: got {}, expected 0 to 255",
             file.path(), type);
      }
      vocab.token_types.push_back(static_cast<int32_t>(type));
    }
  }
  if (file.find_key("tokenizer.ggml.scores") != nullptr) vocab.scores = file.get_floats("tokenizer.ggml.scores");
  const auto get_id = [&](const char* key) -> std::optional<int64_t> {
    if (file.find_key(key) == nullptr) return std::nullopt;
    return file.get_int(key, 0, int64_t{0xFFFFFFFF});
  };
  vocab.bos_id = get_id("tokenizer.ggml.bos_token_id");
  vocab.eos_id = get_id("tokenizer.ggml.eos_token_id");
  vocab.unk_id = get_id("tokenizer.ggml.unknown_token_id");
  vocab.padding_id = get_id("tokenizer.ggml.padding_token_id");
  const auto get_flag = [&](const char* key) -> std::optional<bool> {
    if (file.find_key(key) == nullptr) return std::nullopt;
    return file.get_bool(key, false);
  };
  vocab.add_bos = get_flag("tokenizer.ggml.add_bos_token");
  vocab.add_eos = get_flag("tokenizer.ggml.add_eos_token");
  vocab.add_space_prefix = get_flag("tokenizer.ggml.add_space_prefix");
  return vocab;
}

LoadedModel load_model(const std::string& path) {
  const CheckpointDir checkpoint = open_checkpoint(path);
  LoadedModel model;
  model.path = path;
  model.format = checkpoint_format(checkpoint);
  // Before the spec, so that the files of other quantizers are refused by name and not by their tensors.
  const std::optional<QuantizationConfig> quantization = checkpoint_quantization(checkpoint);
  ModelDescription description = describe_checkpoint(checkpoint);
  model.weights = bind_weights(description, checkpoint.weights, quantization);
  model.spec = std::move(description.spec);

  LoadedText text = load_text(checkpoint);
  if (!checkpoint.generation_config.is_null()) {
    JsonObjectReader reader(checkpoint.generation_config, checkpoint.generation_config_path);
    std::vector<int64_t> ids = read_token_ids(reader, "eos_token_id");
    if (!ids.empty()) model.spec.eos_ids = std::move(ids);
    model.defaults = read_generation_defaults(reader);
  }
  add_tokenizer_eos(model.spec, text);
  if (text.bos_token.empty() && text.tokenizer != nullptr && model.spec.bos_id >= 0) {
    text.bos_token = std::string(text.tokenizer->token_text(static_cast<TokenId>(model.spec.bos_id)));
  }
  model.tokenizer = std::move(text.tokenizer);
  model.chat_template = std::move(text.chat_template);
  model.bos_token = std::move(text.bos_token);
  model.eos_token = std::move(text.eos_token);
  model.weights.source->check_unchanged();
  return model;
}

LoadedText load_text_parts(const std::string& path) { return load_text(open_checkpoint(path, WeightsNeed::kNone)); }

}  // namespace mobilellm
