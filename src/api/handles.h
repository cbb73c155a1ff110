/// What the public handles hold, seen by the files that make them.
#pragma once

#include <memory>
#include <string>

#include "chat/template.h"
#include "mobilellm/chat.h"
#include "mobilellm/tokenizer.h"
#include "tokenizer/tokenizer.h"

namespace mobilellm {

struct TextTokenizer::State {
  std::shared_ptr<const Tokenizer> tokenizer;
};

struct ChatFormat::State {
  std::string render(ChatTemplate::Inputs inputs) const;

  std::shared_ptr<const ChatTemplate> chat_template;
  std::string bos_token, eos_token;  // Empty = undefined in the template.
};

}  // namespace mobilellm
