/// From a request to the prompt that the model sees.
#pragma once

#include "pipeline/pipeline.h"

namespace mobilellm {

/// `template_or_null` and the tokenizer are those of the model; `bos` and `eos` are given to the template.
/// Special tokens written in the text of a prompt become their ids, as in transformers.
/// Throws kTemplate, kInvalidArgument (nothing to say, ids outside the vocabulary, system text without template).
Prompt build_prompt(const GenerateRequest& request, const Tokenizer* tokenizer, const ChatTemplate* template_or_null,
                    const std::string& bos, const std::string& eos, int vocab_size);

}  // namespace mobilellm
