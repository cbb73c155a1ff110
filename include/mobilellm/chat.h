/// Conversations, and their rendering to the text of a prompt.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "mobilellm/export.h"

namespace mobilellm {

/// One turn. Usual roles: "system", "user", "assistant", "tool"; what others mean depends on the model's template.
struct ChatMessage {
  std::string role = {};
  std::string content = {};
};

struct RenderOptions {
  /// End with the header of the answer to come.
  bool add_generation_prompt = true;
  /// JSON array of tool descriptions for the template; empty = none.
  std::string tools_json = {};
  /// JSON object of further variables of the template, e.g. {"enable_thinking": false}; empty = none.
  std::string template_args_json = {};
  /// What the template sees as the time, "2025-09-12 10:20:30" or "2025-09-12"; empty = the machine's clock.
  std::string now = {};
};

/// A model's chat template. Immutable: any number of threads may use one at once. Copies are cheap and share the
/// template, which lives as long as one of them; one that came from Model::chat_format() keeps the whole model in
/// memory. A template is untrusted: it sees its inputs and nothing else, and its time, memory and output are bounded.
///
///     auto format = mobilellm::ChatFormat::load("models/MobileLLM-R1-140M");
///     std::string text = format.render({{"user", "Hello"}});
class MOBILELLM_API ChatFormat {
 public:
  /// Reads the template alone, from a folder that may hold nothing else or from a .gguf file. Throws kNotFound when
  /// there is none, kTemplate when it is malformed, kIo, kCorruptData or kResourceLimit.
  static ChatFormat load(const std::string& path);

  /// Byte for byte what transformers' apply_chat_template gives. To answer a conversation, give the messages to
  /// Model::generate instead: it also keeps special tokens inside of messages from being obeyed.
  /// Throws kTemplate when the template fails or refuses the messages, kInvalidArgument for unusable inputs,
  /// kResourceLimit when it exceeds a bound.
  std::string render(const std::vector<ChatMessage>& messages, const RenderOptions& options = {}) const;
  /// The same for a JSON array of message objects, which may carry more members (tool calls, reasoning).
  std::string render_json(std::string_view messages_json, const RenderOptions& options = {}) const;

  /// The template as it stands in the file.
  const std::string& source() const;

 private:
  friend class Model;
  struct State;
  explicit ChatFormat(std::shared_ptr<const State> state);
  std::shared_ptr<const State> state_;
};

}  // namespace mobilellm
