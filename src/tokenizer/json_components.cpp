// Reads normalizers, pre-tokenizers, post-processors and decoders of tokenizer.json.
#include "tokenizer/json_components.h"

#include "base/error.h"
#include "base/utf8.h"
#include "tokenizer/vocabulary.h"

namespace mobilellm {
namespace {

constexpr int kMaxNesting = 16;
constexpr size_t kMaxSteps = 64;  // Also bounds how deep pre-tokenizer steps call each other.

/// One component object: its reader and where it stands.
struct Component {
  Component(const Json& value, const std::string& file, std::string key)
      : reader(value, file, key), origin(file), path(std::move(key)), type(reader.get_string("type")) {}

  [[noreturn]] void fail_unknown(std::string_view kind) const {
    fail(ErrorCode::kUnsupported, "[tokenizer] {}: {}: {} \"{}\" is not supported", origin, path, kind, type);
  }
  std::string where(std::string_view key) const { return fmt::format("{}: {}.{}", origin, path, key); }

  JsonObjectReader reader;
  const std::string& origin;
  std::string path;
  std::string type;
};

/// Calls read(child, path of child) for the members of a Sequence.
template <typename Read>
void for_each_child(Component& component, std::string_view key, int depth, Read&& read) {
  const Json* const children = component.reader.find(key);
  if (children == nullptr || !children->is_array()) component.reader.fail_key(key, "expected an array");
  if (depth >= kMaxNesting) {
    fail(ErrorCode::kResourceLimit, "[tokenizer] {}: nested deeper than {}", component.where(key), kMaxNesting);
  }
  size_t i = 0;
  for (const Json& child : children->as_array()) read(child, fmt::format("{}.{}[{}]", component.path, key, i++));
}

void check_step_count(size_t n_steps, const Component& component) {
  if (n_steps > kMaxSteps) {
    fail(ErrorCode::kResourceLimit, "[tokenizer] {}: {}: more than {} steps", component.origin, component.path,
         kMaxSteps);
  }
}

/// {"String": ...} or {"Regex": ...}.
TextPattern read_pattern(Component& component) {
  const Json* const pattern = component.reader.find("pattern");
  if (pattern == nullptr) component.reader.fail_key("pattern", "is missing");
  JsonObjectReader reader(*pattern, component.origin, component.path + ".pattern");
  if (reader.has("String")) return {reader.get_string("String"), std::nullopt};
  if (!reader.has("Regex")) component.reader.fail_key("pattern", "expected an object with String or Regex");
  return {{}, Regex(reader.get_string("Regex"), component.where("pattern.Regex"))};
}

std::string read_character(Component& component, std::string_view key, std::string_view default_value) {
  std::string text = component.reader.get_string(key, default_value);
  if (count_code_points(text) != 1) component.reader.fail_key(key, "expected one character");
  return text;
}

SplitBehavior read_behavior(Component& component, std::string_view default_value) {
  const std::string name = component.reader.get_string("behavior", default_value);
  if (name == "Removed") return SplitBehavior::kRemoved;
  if (name == "Isolated") return SplitBehavior::kIsolated;
  if (name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (name == "Contiguous") return SplitBehavior::kContiguous;
  fail(ErrorCode::kUnsupported, "[tokenizer] {}: \"{}\" is not supported", component.where("behavior"), name);
}

void add_normalizer(const Json& value, const std::string& origin, std::string path, int depth,
                    std::vector<NormalizerStep>& steps) {
  Component component(value, origin, std::move(path));
  const std::string& type = component.type;
  JsonObjectReader& reader = component.reader;
  check_step_count(steps.size() + 1, component);
  if (type == "Sequence") {
    for_each_child(component, "normalizers", depth, [&](const Json& child, std::string child_path) {
      add_normalizer(child, origin, std::move(child_path), depth + 1, steps);
    });
  } else if (type == "NFC") {
    steps.push_back(NormalizeForm{unicode::NormalForm::kNfc});
  } else if (type == "NFD") {
    steps.push_back(NormalizeForm{unicode::NormalForm::kNfd});
  } else if (type == "NFKC") {
    steps.push_back(NormalizeForm{unicode::NormalForm::kNfkc});
  } else if (type == "NFKD") {
    steps.push_back(NormalizeForm{unicode::NormalForm::kNfkd});
  } else if (type == "Lowercase") {
    steps.push_back(LowerCase{});
  } else if (type == "StripAccents") {
    steps.push_back(StripAccents{});
  } else if (type == "Strip") {
    steps.push_back(StripSpaces{reader.get_bool("strip_left", true), reader.get_bool("strip_right", true)});
  } else if (type == "Prepend") {
    steps.push_back(PrependText{reader.get_string("prepend")});
  } else if (type == "Replace") {
    TextPattern pattern = read_pattern(component);
    steps.push_back(ReplaceText{std::move(pattern), reader.get_string("content")});
  } else if (type == "ByteLevel") {
    steps.push_back(MapBytes{});
  } else {
    component.fail_unknown("normalizer");
  }
}

void add_split(Component& component, std::vector<PreTokenizerStep>& steps) {
  const SplitBehavior behavior = read_behavior(component, "Isolated");
  const bool invert = component.reader.get_bool("invert", false);
  const Json* const pattern = component.reader.find("pattern");
  const Json* const regex = pattern == nullptr ? nullptr : pattern->find("Regex");
  // The known expressions leave nothing between their matches, so these two mean the same for them.
  const bool keeps_matches = behavior == SplitBehavior::kIsolated || (behavior == SplitBehavior::kRemoved && invert);
  if (regex != nullptr && regex->is_string() && keeps_matches) {
    if (const ScanFunction scan = find_scanner(regex->as_string()); scan != nullptr) {
      steps.push_back(ScanStep{scan});
      return;
    }
  }
  steps.push_back(PatternStep{read_pattern(component), behavior, invert});
}

void add_metaspace(Component& component, std::vector<PreTokenizerStep>& steps) {
  using Prepend = MetaspaceStep::Prepend;
  JsonObjectReader& reader = component.reader;
  const std::string replacement = read_character(component, "replacement", "\xE2\x96\x81");
  const std::string scheme = reader.get_string("prepend_scheme", "always");
  Prepend prepend = Prepend::kAlways;
  if (scheme == "first") {
    prepend = Prepend::kFirst;
  } else if (scheme == "never") {
    prepend = Prepend::kNever;
  } else if (scheme != "always") {
    reader.fail_key("prepend_scheme", fmt::format("got \"{}\", expected always, first or never", scheme));
  }
  if (!reader.get_bool("add_prefix_space", true)) prepend = Prepend::kNever;
  steps.push_back(MetaspaceStep{replacement, prepend, reader.get_bool("split", true)});
}

void add_pre_tokenizer(const Json& value, const std::string& origin, std::string path, int depth,
                       std::vector<PreTokenizerStep>& steps) {
  using Class = ClassStep::Class;
  Component component(value, origin, std::move(path));
  const std::string& type = component.type;
  JsonObjectReader& reader = component.reader;
  check_step_count(steps.size() + 1, component);
  if (type == "Sequence") {
    for_each_child(component, "pretokenizers", depth, [&](const Json& child, std::string child_path) {
      add_pre_tokenizer(child, origin, std::move(child_path), depth + 1, steps);
    });
  } else if (type == "ByteLevel") {
    if (reader.get_bool("add_prefix_space", true)) steps.push_back(PrefixSpaceStep{});
    if (reader.get_bool("use_regex", true)) steps.push_back(ScanStep{scan_gpt2});
    steps.push_back(MapBytesStep{});
  } else if (type == "Split") {
    add_split(component, steps);
  } else if (type == "Metaspace") {
    add_metaspace(component, steps);
  } else if (type == "Digits") {
    const bool individual = reader.get_bool("individual_digits", false);
    steps.push_back(ClassStep{Class::kNumber, individual ? SplitBehavior::kIsolated : SplitBehavior::kContiguous});
  } else if (type == "Punctuation") {
    steps.push_back(ClassStep{Class::kPunctuation, read_behavior(component, "Isolated")});
  } else if (type == "Whitespace") {
    steps.push_back(WordStep{});
  } else if (type == "WhitespaceSplit") {
    steps.push_back(ClassStep{Class::kSpace, SplitBehavior::kRemoved});
  } else if (type == "BertPreTokenizer") {
    steps.push_back(ClassStep{Class::kSpace, SplitBehavior::kRemoved});
    steps.push_back(ClassStep{Class::kPunctuation, SplitBehavior::kIsolated});
  } else if (type == "CharDelimiterSplit") {
    steps.push_back(
        PatternStep{{read_character(component, "delimiter", ""), std::nullopt}, SplitBehavior::kRemoved, false});
  } else {
    component.fail_unknown("pre-tokenizer");
  }
}

TokenId read_id(JsonObjectReader& reader, const Json& value, std::string_view key) {
  if (!value.is_int() || value.as_int() < 0 || value.as_int() > kMaxTokenId) {
    reader.fail_key(key, fmt::format("expected a token id (0..{})", kMaxTokenId));
  }
  return static_cast<TokenId>(value.as_int());
}

/// {"SpecialToken": {"id": name, "type_id": n}} or {"Sequence": {"id": "A" or "B", "type_id": n}}.
TemplatePiece read_template_piece(const Json& value, const std::string& origin, const std::string& path,
                                  Component& component) {
  JsonObjectReader reader(value, origin, path);
  const bool is_special = reader.has("SpecialToken");
  JsonObjectReader inner = reader.get_object(is_special ? "SpecialToken" : "Sequence");
  TemplatePiece piece;
  piece.type_id = static_cast<int32_t>(inner.get_int("type_id", 0, INT32_MAX, 0));
  const std::string name = inner.get_string("id");
  if (!is_special) {
    if (name != "A" && name != "B") inner.fail_key("id", fmt::format("got \"{}\", expected A or B", name));
    piece.sequence = name == "A" ? 0 : 1;
    return piece;
  }
  JsonObjectReader tokens = component.reader.get_object("special_tokens");
  if (!tokens.has(name)) tokens.fail_key(name, "is used by the template but missing");
  JsonObjectReader token = tokens.get_object(name);
  const Json* const ids = token.find("ids");
  if (ids == nullptr || !ids->is_array()) token.fail_key("ids", "expected an array");
  for (const Json& id : ids->as_array()) piece.ids.push_back(read_id(token, id, "ids"));
  return piece;
}

std::vector<TemplatePiece> read_template(Component& component, std::string_view key, int max_sequence) {
  const Json* const pieces = component.reader.find(key);
  std::vector<TemplatePiece> out;
  if (pieces == nullptr) return out;
  if (!pieces->is_array()) component.reader.fail_key(key, "expected an array");
  check_step_count(pieces->as_array().size(), component);
  for (const Json& piece : pieces->as_array()) {
    const std::string path = fmt::format("{}.{}[{}]", component.path, key, out.size());
    out.push_back(read_template_piece(piece, component.origin, path, component));
    if (out.back().sequence > max_sequence) component.reader.fail_key(key, "names a second text, expected only A");
  }
  return out;
}

/// ["text", id] of BertProcessing and RobertaProcessing.
TemplatePiece read_token_pair(Component& component, std::string_view key, int32_t type_id) {
  const Json* const value = component.reader.find(key);
  if (value == nullptr || !value->is_array() || value->as_array().size() != 2) {
    component.reader.fail_key(key, "expected [token, id]");
  }
  return {-1, {read_id(component.reader, value->as_array()[1], key)}, type_id};
}

void add_post_processor(const Json& value, const std::string& origin, std::string path, int depth,
                        PostProcessor& post) {
  Component component(value, origin, std::move(path));
  const std::string& type = component.type;
  if (type == "Sequence") {
    for_each_child(component, "processors", depth, [&](const Json& child, std::string child_path) {
      add_post_processor(child, origin, std::move(child_path), depth + 1, post);
    });
    return;
  }
  if (type == "ByteLevel") return;  // Only moves offsets.
  if (post.has_template) {
    fail(ErrorCode::kUnsupported, "[tokenizer] {}: {}: a second template is not supported", origin, component.path);
  }
  post.has_template = true;
  if (type == "TemplateProcessing") {
    post.single = read_template(component, "single", 0);
    post.pair = read_template(component, "pair", 1);
  } else if (type == "BertProcessing") {
    const TemplatePiece cls = read_token_pair(component, "cls", 0);
    const TemplatePiece sep = read_token_pair(component, "sep", 0);
    const TemplatePiece second_sep = read_token_pair(component, "sep", 1);
    post.single = {cls, {0, {}, 0}, sep};
    post.pair = {cls, {0, {}, 0}, sep, {1, {}, 1}, second_sep};
  } else if (type == "RobertaProcessing") {
    const TemplatePiece cls = read_token_pair(component, "cls", 0);
    const TemplatePiece sep = read_token_pair(component, "sep", 0);
    post.single = {cls, {0, {}, 0}, sep};
    post.pair = {cls, {0, {}, 0}, sep, sep, {1, {}, 0}, sep};
  } else {
    component.fail_unknown("post-processor");
  }
}

void add_decoder(const Json& value, const std::string& origin, std::string path, int depth,
                 std::vector<DecoderStep>& steps) {
  Component component(value, origin, std::move(path));
  const std::string& type = component.type;
  JsonObjectReader& reader = component.reader;
  check_step_count(steps.size() + 1, component);
  if (type == "Sequence") {
    for_each_child(component, "decoders", depth, [&](const Json& child, std::string child_path) {
      add_decoder(child, origin, std::move(child_path), depth + 1, steps);
    });
  } else if (type == "ByteLevel") {
    steps.push_back(DecodeByteLevel{});
  } else if (type == "Metaspace") {
    const bool strips_first =
        reader.get_string("prepend_scheme", "always") != "never" && reader.get_bool("add_prefix_space", true);
    steps.push_back(DecodeMetaspace{read_character(component, "replacement", "\xE2\x96\x81"), strips_first});
  } else if (type == "Replace") {
    TextPattern pattern = read_pattern(component);
    steps.push_back(DecodeReplace{std::move(pattern), reader.get_string("content")});
  } else if (type == "ByteFallback") {
    steps.push_back(DecodeByteFallback{});
  } else if (type == "Fuse") {
    steps.push_back(DecodeFuse{});
  } else if (type == "Strip") {
    steps.push_back(DecodeStrip{read_character(component, "content", " "),
                                static_cast<size_t>(reader.get_int("start", 0, 1 << 20, 0)),
                                static_cast<size_t>(reader.get_int("stop", 0, 1 << 20, 0))});
  } else {
    component.fail_unknown("decoder");
  }
}

}  // namespace

Normalizer read_normalizer(const Json& value, const std::string& origin) {
  std::vector<NormalizerStep> steps;
  if (!value.is_null()) add_normalizer(value, origin, "normalizer", 0, steps);
  return Normalizer(std::move(steps));
}

std::vector<PreTokenizerStep> read_pre_tokenizer(const Json& value, const std::string& origin) {
  std::vector<PreTokenizerStep> steps;
  if (!value.is_null()) add_pre_tokenizer(value, origin, "pre_tokenizer", 0, steps);
  return steps;
}

PostProcessor read_post_processor(const Json& value, const std::string& origin) {
  PostProcessor post;
  if (!value.is_null()) add_post_processor(value, origin, "post_processor", 0, post);
  return post;
}

std::vector<DecoderStep> read_decoder(const Json& value, const std::string& origin) {
  std::vector<DecoderStep> steps;
  if (value.is_null()) {
    steps.push_back(DecodeJoin{});
  } else {
    add_decoder(value, origin, "decoder", 0, steps);
  }
  return steps;
}

}  // namespace mobilellm
