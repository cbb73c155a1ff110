/// From a request to the prompt that the model sees.
#pragma once

#include "pipeline/pipeline.h"

namespace mobilellm {

/// `template_or_null` and the tokenizer are those of the model; `bos` and `eos` are given to the template.
/// With the template, special tokens in the texts of messages stay ordinary text (see SpecialTokenGuard); those of the
/// template and of the prefill become their ids. A raw prompt may hold special tokens. System text is not used without
/// the template.
/// Throws kTemplate, kInvalidArgument (nothing to say, ids outside the vocabulary, messages without template).
Prompt build_prompt(const GenerateRequest& request, const Tokenizer* tokenizer, const ChatTemplate* template_or_null,
                    const std::string& bos, const std::string& eos, int vocab_size);

}  // namespace mobilellm
