/// The components of tokenizer.json around the model, from their JSON descriptions.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "tokenizer/decoder.h"
#include "tokenizer/normalizer.h"
#include "tokenizer/post_processor.h"
#include "tokenizer/pretokenizer.h"

namespace mobilellm {

/// Each takes the value of its key (null for none) and throws kUnsupported naming an unknown type, kCorruptData naming
/// the key of a wrong value. `origin` is the file.
Normalizer read_normalizer(const Json& value, const std::string& origin);
std::vector<PreTokenizerStep> read_pre_tokenizer(const Json& value, const std::string& origin);
PostProcessor read_post_processor(const Json& value, const std::string& origin);
std::vector<DecoderStep> read_decoder(const Json& value, const std::string& origin);

}  // namespace mobilellm
