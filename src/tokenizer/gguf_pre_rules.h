/// What the names in tokenizer.ggml.pre stand for.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "tokenizer/pretokenizer.h"

namespace mobilellm {

enum class SplitRule : uint8_t { kLlama3, kQwen2, kDigitsGpt2, kGpt2, kDeepSeek3, kGpt4o };

struct GgufPreRule {
  SplitRule split = SplitRule::kGpt2;
  bool normalizes_nfc = false;
  bool ignore_merges = false;
  bool adds_bos = false;  ///< Where the file does not say.
};

/// Throws kUnsupported for a name that is not known.
GgufPreRule get_gguf_pre_rule(std::string_view name, std::string_view origin);
/// One name for each rule, for writing.
std::span<const char* const> gguf_pre_names();

std::vector<PreTokenizerStep> make_split_steps(SplitRule rule, std::string_view origin);
/// The same as tokenizer.json has it, for byte-level vocabularies.
Json split_rule_json(SplitRule rule);

}  // namespace mobilellm
