// From GGUF keys to the text of a tokenizer.json. Vocabularies are large, so the text is put together directly.
#include <fmt/core.h>

#include <algorithm>
#include <numeric>
#include <string_view>
#include <unordered_map>

#include "base/error.h"
#include "base/json.h"
#include "tokenizer/export.h"
#include "tokenizer/gguf_pre_rules.h"

namespace mobilellm {
namespace {

constexpr int32_t kNormalType = 1;
constexpr int32_t kUnknownType = 2;
constexpr int32_t kControlType = 3;
constexpr int32_t kUserType = 4;
constexpr int32_t kUnusedType = 5;
constexpr int32_t kByteType = 6;
constexpr const char* kMetaspace = "\xE2\x96\x81";
constexpr size_t kMaxMergeText = 256;  // Longer tokens are never made by merging in published vocabularies.

int32_t type_of(const GgufVocab& vocab, size_t id) {
  return id < vocab.token_types.size() ? vocab.token_types[id] : kNormalType;
}

/// Fillers that stand for rows of the embedding table without a token.
bool is_padding(const GgufVocab& vocab, size_t id) {
  const std::string& text = vocab.tokens[id];
  return text.empty() || (type_of(vocab, id) == kUnusedType && text.starts_with("[PAD"));
}

std::string added_tokens_text(const GgufVocab& vocab) {
  std::string out = "[";
  for (size_t i = 0; i < vocab.tokens.size(); ++i) {
    const int32_t type = type_of(vocab, i);
    if (is_padding(vocab, i) || (type != kControlType && type != kUserType && type != kUnknownType)) continue;
    const Json token = Json::object()
                           .set("id", static_cast<int64_t>(i))
                           .set("content", vocab.tokens[i])
                           .set("single_word", false)
                           .set("lstrip", false)
                           .set("rstrip", false)
                           .set("normalized", false)
                           .set("special", type != kUserType);
    out += (out.size() > 1 ? ",\n    " : "\n    ") + token.dump();
  }
  return out + "\n  ]";
}

Json special_piece(const std::string& token, int type_id) {
  return Json::object().set("SpecialToken", Json::object().set("id", token).set("type_id", type_id));
}

Json post_processor(const GgufVocab& vocab, bool adds_bos, bool is_byte_level) {
  const bool has_bos = adds_bos && vocab.bos_id.has_value();
  const bool has_eos = vocab.add_eos.value_or(false) && vocab.eos_id.has_value();
  if (!has_bos && !has_eos) {
    if (!is_byte_level) return nullptr;
    return Json::object()
        .set("type", "ByteLevel")
        .set("add_prefix_space", true)
        .set("trim_offsets", false)
        .set("use_regex", true);
  }
  Json special = Json::object();
  const auto text_of = [&](int64_t id) {
    if (id < 0 || static_cast<size_t>(id) >= vocab.tokens.size()) {
      fail(ErrorCode::kCorruptData, "[tokenizer] special id {} is outside the vocabulary of {}", id,
           vocab.tokens.size());
    }
    const std::string& text = vocab.tokens[static_cast<size_t>(id)];
    special.set(
        text, Json::object().set("id", text).set("ids", Json(Json::Array{id})).set("tokens", Json(Json::Array{text})));
    return text;
  };
  Json single = Json::array();
  Json pair = Json::array();
  for (const int sequence : {0, 1}) {
    Json pieces = Json::array();
    if (has_bos) pieces.push(special_piece(text_of(*vocab.bos_id), sequence));
    pieces.push(
        Json::object().set("Sequence", Json::object().set("id", sequence == 0 ? "A" : "B").set("type_id", sequence)));
    if (has_eos) pieces.push(special_piece(text_of(*vocab.eos_id), sequence));
    for (const Json& piece : pieces.as_array()) pair.push(piece);
    if (sequence == 0) single = std::move(pieces);
  }
  return Json::object()
      .set("type", "TemplateProcessing")
      .set("single", std::move(single))
      .set("pair", std::move(pair))
      .set("special_tokens", std::move(special));
}

Json replace_step(const char* type, const std::string& from, const std::string& to) {
  return Json::object().set("type", type).set("pattern", Json::object().set("String", from)).set("content", to);
}

struct Components {
  Json normalizer, pre_tokenizer, decoder;
  bool adds_bos = true;
  bool ignore_merges = false;
};

Components byte_level_components(const GgufVocab& vocab, const std::string& origin) {
  const GgufPreRule rule = get_gguf_pre_rule(vocab.pre, origin);
  Components components;
  if (rule.normalizes_nfc) components.normalizer = Json::object().set("type", "NFC");
  components.pre_tokenizer = split_rule_json(rule.split);
  components.decoder = Json::object()
                           .set("type", "ByteLevel")
                           .set("add_prefix_space", true)
                           .set("trim_offsets", true)
                           .set("use_regex", true);
  components.adds_bos = rule.adds_bos;
  components.ignore_merges = rule.ignore_merges;
  return components;
}

Components sentencepiece_components(const GgufVocab& vocab) {
  const bool adds_prefix = vocab.add_space_prefix.value_or(true);
  Json normalizers = Json::array();
  if (adds_prefix) normalizers.push(Json::object().set("type", "Prepend").set("prepend", kMetaspace));
  normalizers.push(replace_step("Replace", " ", kMetaspace));
  Json decoders = Json::array();
  decoders.push(replace_step("Replace", kMetaspace, " "));
  decoders.push(Json::object().set("type", "ByteFallback"));
  decoders.push(Json::object().set("type", "Fuse"));
  if (adds_prefix) {
    decoders.push(Json::object().set("type", "Strip").set("content", " ").set("start", 1).set("stop", 0));
  }
  Components components;
  components.normalizer = Json::object().set("type", "Sequence").set("normalizers", std::move(normalizers));
  components.decoder = Json::object().set("type", "Sequence").set("decoders", std::move(decoders));
  return components;
}

void append_merge(std::string& out, std::string_view left, std::string_view right) {
  out += out.size() > 1 ? ",\n      [" : "\n      [";
  append_json_string(out, left);
  out += ", ";
  append_json_string(out, right);
  out += "]";
}

std::string listed_merges(const GgufVocab& vocab, const std::string& origin) {
  std::string out = "[";
  for (const std::string& line : vocab.merges) {
    const size_t space = line.find(' ', 1);
    if (space == std::string::npos) {
      fail(ErrorCode::kCorruptData, "[tokenizer] {}: tokenizer.ggml.merges: got '{}', expected two tokens", origin,
           line.substr(0, 60));
    }
    append_merge(out, std::string_view(line).substr(0, space), std::string_view(line).substr(space + 1));
  }
  return out + "\n    ]";
}

/// Every split of a token into two tokens, tokens of high scores first.
std::string merges_of_scores(const GgufVocab& vocab, const std::string& origin) {
  if (vocab.scores.size() != vocab.tokens.size()) {
    fail(ErrorCode::kCorruptData, "[tokenizer] {}: tokenizer.ggml.scores: {} values for {} tokens", origin,
         vocab.scores.size(), vocab.tokens.size());
  }
  const auto takes_part = [&](size_t id) {
    const int32_t type = type_of(vocab, id);
    return type != kUnknownType && type != kControlType && type != kUnusedType && type != kByteType &&
           !vocab.tokens[id].empty();
  };
  std::unordered_map<std::string_view, size_t> ids;
  for (size_t i = 0; i < vocab.tokens.size(); ++i) {
    if (takes_part(i)) ids.emplace(vocab.tokens[i], i);
  }
  std::vector<size_t> order(vocab.tokens.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return vocab.scores[a] > vocab.scores[b]; });
  std::string out = "[";
  for (const size_t id : order) {
    const std::string_view text = vocab.tokens[id];
    if (!takes_part(id) || text.size() > kMaxMergeText) continue;
    std::vector<std::pair<size_t, size_t>> splits;
    for (size_t i = 1; i < text.size(); ++i) {
      const auto left = ids.find(text.substr(0, i));
      if (left == ids.end()) continue;
      const auto right = ids.find(text.substr(i));
      if (right != ids.end()) splits.emplace_back(left->second, right->second);
    }
    std::sort(splits.begin(), splits.end());
    for (const auto& [left, right] : splits) append_merge(out, vocab.tokens[left], vocab.tokens[right]);
  }
  return out + "\n    ]";
}

std::string vocabulary_text(const GgufVocab& vocab) {
  std::string out = "{";
  for (size_t i = 0; i < vocab.tokens.size(); ++i) {
    if (is_padding(vocab, i)) continue;
    out += out.size() > 1 ? ",\n      " : "\n      ";
    append_json_string(out, vocab.tokens[i]);
    out += fmt::format(": {}", i);
  }
  return out + "\n    }";
}

}  // namespace

std::string make_tokenizer_json(const GgufVocab& vocab, const std::string& origin) {
  const bool is_byte_level = vocab.model == "gpt2";
  if (!is_byte_level && vocab.model != "llama") {
    fail(ErrorCode::kUnsupported, "[tokenizer] {}: tokenizer.ggml.model \"{}\" is not supported", origin, vocab.model);
  }
  const Components components = is_byte_level ? byte_level_components(vocab, origin) : sentencepiece_components(vocab);
  Json unknown;
  if (vocab.unk_id && *vocab.unk_id >= 0 && static_cast<size_t>(*vocab.unk_id) < vocab.tokens.size()) {
    unknown = vocab.tokens[static_cast<size_t>(*vocab.unk_id)];
  }
  const Json post = post_processor(vocab, vocab.add_bos.value_or(components.adds_bos), is_byte_level);
  const auto flag = [](bool value) { return value ? "true" : "false"; };
  std::string out = "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n";
  out += "  \"added_tokens\": " + added_tokens_text(vocab) + ",\n";
  out += "  \"normalizer\": " + components.normalizer.dump() + ",\n";
  out += "  \"pre_tokenizer\": " + components.pre_tokenizer.dump() + ",\n";
  out += "  \"post_processor\": " + post.dump() + ",\n";
  out += "  \"decoder\": " + components.decoder.dump() + ",\n";
  out += "  \"model\": {\n    \"type\": \"BPE\",\n    \"dropout\": null,\n";
  out += "    \"unk_token\": " + (is_byte_level ? Json() : unknown).dump() + ",\n";
  out += "    \"continuing_subword_prefix\": null,\n    \"end_of_word_suffix\": null,\n";
  out += fmt::format("    \"fuse_unk\": {0},\n    \"byte_fallback\": {0},\n", flag(!is_byte_level));
  out += fmt::format("    \"ignore_merges\": {},\n", flag(components.ignore_merges));
  out += "    \"vocab\": " + vocabulary_text(vocab) + ",\n";
  out += "    \"merges\": " + (is_byte_level ? listed_merges(vocab, origin) : merges_of_scores(vocab, origin));
  return out + "\n  }\n}\n";
}

}  // namespace mobilellm
