// The table of names, and each rule as steps and as JSON.
#include "tokenizer/gguf_pre_rules.h"

#include "base/error.h"
#include "tokenizer/split_scanners.h"

namespace mobilellm {
namespace {

const char* const kDeepSeekCjk = "[\xE4\xB8\x80-\xE9\xBE\xA5\xE3\x81\x80-\xE3\x82\x9F\xE3\x82\xA0-\xE3\x83\xBF]+";
const char* const kDeepSeekWords =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
const char* const kGpt4oPattern =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

const char* const kNumberGroups = R"(\p{N}{1,3})";

struct PreRow {
  const char* name;
  GgufPreRule rule;
};

constexpr GgufPreRule kLlama3Rule = {SplitRule::kLlama3, false, true, true};
constexpr GgufPreRule kPlainLlama3Rule = {SplitRule::kLlama3, false, false, false};
constexpr GgufPreRule kQwen2Rule = {SplitRule::kQwen2, true, false, false};
constexpr GgufPreRule kPlainQwen2Rule = {SplitRule::kQwen2, false, false, false};
constexpr GgufPreRule kDigitsRule = {SplitRule::kDigitsGpt2, false, false, false};
constexpr GgufPreRule kGpt2Rule = {SplitRule::kGpt2, false, false, false};
constexpr GgufPreRule kDeepSeek3Rule = {SplitRule::kDeepSeek3, false, false, false};
constexpr GgufPreRule kGpt4oRule = {SplitRule::kGpt4o, false, false, false};

constexpr PreRow kRows[] = {
    {"llama-bpe", kLlama3Rule},
    {"llama3", kLlama3Rule},
    {"llama-v3", kLlama3Rule},
    {"falcon3", kLlama3Rule},
    {"pixtral", kLlama3Rule},
    {"dbrx", kPlainLlama3Rule},
    {"smaug-bpe", kPlainLlama3Rule},
    {"chatglm-bpe", kPlainLlama3Rule},
    {"gpt-4", kPlainLlama3Rule},
    {"olmo2", kPlainLlama3Rule},
    {"qwen2", kQwen2Rule},
    {"qwen3", kQwen2Rule},
    {"stablelm2", kQwen2Rule},
    {"deepseek-r1-qwen", kPlainQwen2Rule},
    {"megrez", kPlainQwen2Rule},
    {"smollm", kDigitsRule},
    {"starcoder", kDigitsRule},
    {"refact", kDigitsRule},
    {"command-r", kDigitsRule},
    {"codeshell", kDigitsRule},
    {"exaone", kDigitsRule},
    {"gpt-2", kGpt2Rule},
    {"", kGpt2Rule},
    {"default", kGpt2Rule},
    {"gpt2", kGpt2Rule},
    {"olmo", kGpt2Rule},
    {"phi-2", kGpt2Rule},
    {"mpt", kGpt2Rule},
    {"jais", kGpt2Rule},
    {"trillion", kGpt2Rule},
    {"roberta-bpe", kGpt2Rule},
    {"deepseek-v3", kDeepSeek3Rule},
    {"deepseek3-llm", kDeepSeek3Rule},
    {"gpt-4o", kGpt4oRule},
    {"llama4", kGpt4oRule},
};

constexpr const char* kWrittenNames[] = {"llama-bpe", "dbrx",  "qwen2",       "deepseek-r1-qwen",
                                         "smollm",    "gpt-2", "deepseek-v3", "gpt-4o"};

std::vector<const char*> patterns_of(SplitRule rule) {
  switch (rule) {
    case SplitRule::kLlama3:
      return {kLlama3Pattern};
    case SplitRule::kQwen2:
      return {kQwen2Pattern};
    case SplitRule::kDeepSeek3:
      return {kNumberGroups, kDeepSeekCjk, kDeepSeekWords};
    case SplitRule::kGpt4o:
      return {kGpt4oPattern};
    case SplitRule::kDigitsGpt2:
    case SplitRule::kGpt2:
      break;
  }
  return {};
}

Json byte_level(bool use_regex) {
  return Json::object()
      .set("type", "ByteLevel")
      .set("add_prefix_space", false)
      .set("trim_offsets", true)
      .set("use_regex", use_regex);
}

}  // namespace

GgufPreRule get_gguf_pre_rule(std::string_view name, std::string_view origin) {
  for (const PreRow& row : kRows) {
    if (name == row.name) return row.rule;
  }
  fail(ErrorCode::kUnsupported, "[tokenizer] {}: tokenizer.ggml.pre \"{}\" is not supported", origin, name);
}

std::span<const char* const> gguf_pre_names() { return kWrittenNames; }

std::vector<PreTokenizerStep> make_split_steps(SplitRule rule, std::string_view origin) {
  std::vector<PreTokenizerStep> steps;
  switch (rule) {
    case SplitRule::kLlama3:
      steps.push_back(ScanStep{scan_llama3});
      break;
    case SplitRule::kQwen2:
      steps.push_back(ScanStep{scan_qwen2});
      break;
    case SplitRule::kDigitsGpt2:
      steps.push_back(ScanStep{scan_digits_gpt2});
      break;
    case SplitRule::kGpt2:
      steps.push_back(ScanStep{scan_gpt2});
      break;
    case SplitRule::kDeepSeek3:
    case SplitRule::kGpt4o:
      for (const char* pattern : patterns_of(rule)) {
        steps.push_back(PatternStep{{{}, Regex(pattern, std::string(origin))}, SplitBehavior::kIsolated, false});
      }
      break;
  }
  return steps;
}

Json split_rule_json(SplitRule rule) {
  if (rule == SplitRule::kGpt2) return byte_level(true);
  Json steps = Json::array();
  if (rule == SplitRule::kDigitsGpt2) {
    steps.push(Json::object().set("type", "Digits").set("individual_digits", true));
    steps.push(byte_level(true));
  } else {
    for (const char* pattern : patterns_of(rule)) {
      steps.push(Json::object()
                     .set("type", "Split")
                     .set("pattern", Json::object().set("Regex", pattern))
                     .set("behavior", "Isolated")
                     .set("invert", false));
    }
    steps.push(byte_level(false));
  }
  return Json::object().set("type", "Sequence").set("pretokenizers", std::move(steps));
}

}  // namespace mobilellm
