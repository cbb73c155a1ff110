// tokenizer.json: simdjson walks the large vocabulary and merges, the small components become Json values.
#include <simdjson.h>

#include <algorithm>

#include "base/error.h"
#include "base/files.h"
#include "base/json.h"
#include "tokenizer/json_components.h"
#include "tokenizer/model_builder.h"

namespace mobilellm {
namespace {

using simdjson::dom::element;
using simdjson::dom::element_type;

constexpr size_t kMaxFile = size_t{256} << 20;
constexpr size_t kMaxDepth = 128;
constexpr size_t kMaxComponent = size_t{8} << 20;

[[noreturn]] void fail_type(const std::string& origin, std::string_view key, std::string_view expected) {
  fail(ErrorCode::kCorruptData, "[tokenizer] {}: {}: expected {}", origin, key, expected);
}

/// A small part of the file as a value; null when absent.
Json component(const simdjson::dom::object& root, std::string_view key, const std::string& origin) {
  element value;
  if (root[key].get(value) != simdjson::SUCCESS) return {};
  const std::string text = simdjson::to_string(value);
  if (text.size() > kMaxComponent) {
    fail(ErrorCode::kResourceLimit, "[tokenizer] {}: {} has {} bytes, at most {} are allowed", origin, key, text.size(),
         kMaxComponent);
  }
  return Json::parse(text, origin + ": " + std::string(key));
}

bool get_flag(const simdjson::dom::object& object, std::string_view key, bool default_value, const std::string& origin,
              std::string_view path) {
  element value;
  if (object[key].get(value) != simdjson::SUCCESS || value.is_null()) return default_value;
  bool flag = false;
  if (value.get(flag) != simdjson::SUCCESS) fail_type(origin, fmt::format("{}.{}", path, key), "true or false");
  return flag;
}

std::string get_text(const simdjson::dom::object& object, std::string_view key, const std::string& origin,
                     std::string_view path) {
  element value;
  if (object[key].get(value) != simdjson::SUCCESS || value.is_null()) return {};
  std::string_view text;
  if (value.get(text) != simdjson::SUCCESS) fail_type(origin, fmt::format("{}.{}", path, key), "a string");
  return std::string(text);
}

std::vector<AddedToken> read_added_tokens(const simdjson::dom::object& root, const std::string& origin) {
  std::vector<AddedToken> tokens;
  element value;
  if (root["added_tokens"].get(value) != simdjson::SUCCESS || value.is_null()) return tokens;
  simdjson::dom::array array;
  if (value.get(array) != simdjson::SUCCESS) fail_type(origin, "added_tokens", "an array");
  for (const element item : array) {
    const std::string path = fmt::format("added_tokens[{}]", tokens.size());
    simdjson::dom::object object;
    if (item.get(object) != simdjson::SUCCESS) fail_type(origin, path, "an object");
    AddedToken token;
    int64_t id = -1;
    if (object["id"].get(id) != simdjson::SUCCESS || id < 0 || id > kMaxTokenId) {
      fail_type(origin, path + ".id", fmt::format("a token id (0..{})", kMaxTokenId));
    }
    token.id = static_cast<TokenId>(id);
    token.content = get_text(object, "content", origin, path);
    if (token.content.empty()) fail_type(origin, path + ".content", "a string that is not empty");
    token.is_special = get_flag(object, "special", false, origin, path);
    token.single_word = get_flag(object, "single_word", false, origin, path);
    token.lstrip = get_flag(object, "lstrip", false, origin, path);
    token.rstrip = get_flag(object, "rstrip", false, origin, path);
    token.is_normalized = get_flag(object, "normalized", !token.is_special, origin, path);
    tokens.push_back(std::move(token));
  }
  return tokens;
}

void read_vocabulary(const simdjson::dom::object& vocabulary, ModelBuilder& builder) {
  for (const auto& [text, value] : vocabulary) {
    int64_t id = 0;
    if (value.get(id) != simdjson::SUCCESS) {
      fail_type(builder.origin(), fmt::format("model.vocab[\"{}\"]", text.substr(0, 60)), "an integer id");
    }
    builder.add_token(text, id, "model.vocab");
  }
}

void read_merges(const simdjson::dom::array& merges, ModelBuilder& builder) {
  const size_t n_merges = merges.number_of_slots() / 2;  // At least: a string takes two slots.
  builder.reserve_merges(std::min(n_merges, size_t{1} << 23));
  size_t rank = 0;
  for (const element item : merges) {
    std::string_view line;
    simdjson::dom::array pair;
    if (item.get(line) == simdjson::SUCCESS) {
      builder.add_merge_line(line, rank);
    } else {
      std::string_view parts[2];
      if (item.get(pair) != simdjson::SUCCESS || pair.size() != 2 || pair.at(0).get(parts[0]) != simdjson::SUCCESS ||
          pair.at(1).get(parts[1]) != simdjson::SUCCESS) {
        fail_type(builder.origin(), fmt::format("model.merges[{}]", rank), "\"left right\" or [\"left\", \"right\"]");
      }
      builder.add_merge(parts[0], parts[1], rank);
    }
    ++rank;
  }
}

/// The model object and how its options combine with the pre-tokenizer.
struct Model {
  simdjson::dom::object object;
  simdjson::dom::object vocabulary;
  simdjson::dom::array merges;
  BpeOptions options;
  std::string unknown_token;
};

Model read_model(const simdjson::dom::object& root, const std::string& origin) {
  Model model;
  if (root["model"].get(model.object) != simdjson::SUCCESS) fail_type(origin, "model", "an object");
  const std::string type = get_text(model.object, "type", origin, "model");
  if (!type.empty() && type != "BPE") {
    fail(ErrorCode::kUnsupported, "[tokenizer] {}: model.type \"{}\" is not supported, only BPE", origin, type);
  }
  for (const char* const key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (!get_text(model.object, key, origin, "model").empty()) {
      fail(ErrorCode::kUnsupported, "[tokenizer] {}: model.{} is not supported", origin, key);
    }
  }
  element dropout;
  if (model.object["dropout"].get(dropout) == simdjson::SUCCESS && !dropout.is_null()) {
    double probability = 0;
    if (dropout.get(probability) != simdjson::SUCCESS) fail_type(origin, "model.dropout", "a number");
    if (probability != 0) fail(ErrorCode::kUnsupported, "[tokenizer] {}: model.dropout is not supported", origin);
  }
  model.options.ignore_merges = get_flag(model.object, "ignore_merges", false, origin, "model");
  model.options.byte_fallback = get_flag(model.object, "byte_fallback", false, origin, "model");
  model.options.fuse_unknown = get_flag(model.object, "fuse_unk", false, origin, "model");
  model.unknown_token = get_text(model.object, "unk_token", origin, "model");
  if (model.object["vocab"].get(model.vocabulary) != simdjson::SUCCESS) fail_type(origin, "model.vocab", "an object");
  if (model.object["merges"].get(model.merges) != simdjson::SUCCESS) fail_type(origin, "model.merges", "an array");
  return model;
}

std::optional<TokenId> leading_token(const PostProcessor& post) {
  if (post.single.empty() || post.single[0].sequence >= 0 || post.single[0].ids.size() != 1) return std::nullopt;
  return post.single[0].ids[0];
}

/// `text` has SIMDJSON_PADDING readable bytes after it when `is_padded`.
std::shared_ptr<const Tokenizer> load(const char* data, size_t n_bytes, bool is_padded, const std::string& origin) {
  if (n_bytes > kMaxFile) {
    fail(ErrorCode::kResourceLimit, "[tokenizer] {}: {} bytes, at most {} are allowed", origin, n_bytes, kMaxFile);
  }
  simdjson::dom::parser parser;
  if (parser.allocate(std::max<size_t>(n_bytes, 64), kMaxDepth) != simdjson::SUCCESS) {
    fail(ErrorCode::kResourceLimit, "[tokenizer] {}: no memory to parse {} bytes", origin, n_bytes);
  }
  element root_element;
  if (const simdjson::error_code error = parser.parse(data, n_bytes, !is_padded).get(root_element);
      error != simdjson::SUCCESS) {
    fail(ErrorCode::kCorruptData, "[tokenizer] {}: not valid JSON: {}", origin, simdjson::error_message(error));
  }
  simdjson::dom::object root;
  if (root_element.get(root) != simdjson::SUCCESS) fail_type(origin, "the file", "a JSON object");

  Model model = read_model(root, origin);
  const Json normalizer_json = component(root, "normalizer", origin);
  std::vector<PreTokenizerStep> steps = read_pre_tokenizer(component(root, "pre_tokenizer", origin), origin);
  const bool is_byte_level = simplify_steps(steps, !model.options.byte_fallback);

  const size_t n_tokens = model.vocabulary.size();
  ModelBuilder builder(origin, is_byte_level, n_tokens, std::min(n_bytes, n_tokens * 12));
  read_vocabulary(model.vocabulary, builder);
  read_merges(model.merges, builder);
  if (!model.unknown_token.empty()) {
    model.options.unknown_id = builder.find(model.unknown_token);
    if (model.options.unknown_id < 0) {
      fail(ErrorCode::kCorruptData, "[tokenizer] {}: model.unk_token \"{}\" is not in the vocabulary", origin,
           model.unknown_token);
    }
  }
  auto parts = builder.finish(model.options, read_added_tokens(root, origin), read_normalizer(normalizer_json, origin));
  parts->pre_tokenizer = PreTokenizer(std::move(steps));
  parts->post_processor = read_post_processor(component(root, "post_processor", origin), origin);
  parts->decoder = read_decoder(component(root, "decoder", origin), origin);
  parts->bos_id = leading_token(parts->post_processor);
  parts->source = "tokenizer.json";
  parts->finish();
  return std::make_shared<const Tokenizer>(std::move(parts));
}

}  // namespace

std::shared_ptr<const Tokenizer> load_tokenizer_json(const std::string& path) {
  std::string text = read_file(path, kMaxFile);
  const size_t n_bytes = text.size();
  text.append(simdjson::SIMDJSON_PADDING, ' ');
  return load(text.data(), n_bytes, true, path);
}

std::shared_ptr<const Tokenizer> load_tokenizer_json_text(std::string_view json, std::string_view origin) {
  return load(json.data(), json.size(), false, std::string(origin));
}

}  // namespace mobilellm
