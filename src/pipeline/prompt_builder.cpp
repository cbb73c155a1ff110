// Messages, system text, template, prefill and encoding.
#include "pipeline/prompt_builder.h"

#include "base/error.h"
#include "pipeline/special_tokens.h"

namespace mobilellm {
namespace {

bool is_system_message(const Json& message) {
  const Json* role = message.find("role");
  return role != nullptr && role->is_string() && (role->as_string() == "system" || role->as_string() == "developer");
}

Json make_message(const char* role, const std::string& content) {
  return Json::object().set("role", role).set("content", content);
}

Json make_messages(const GenerateRequest& request) {
  Json::Array messages;
  if (request.messages.is_array()) messages = request.messages.as_array();
  if (messages.empty()) messages.push_back(make_message("user", request.prompt));
  for (const Json& message : messages) {
    if (!message.is_object()) {
      fail(ErrorCode::kInvalidArgument, "[prompt] a message is {}, expected an object with role and content",
           message.type_name());
    }
  }
  const bool has_system = is_system_message(messages.front());
  if (request.system) {
    if (has_system) messages.erase(messages.begin());
    messages.insert(messages.begin(), make_message("system", *request.system));
  } else if (request.final_only && !has_system) {
    messages.insert(messages.begin(), make_message("system", kFinalOnlySystem));
  }
  return messages;
}

// Without a template, an opening tag at the end of the prompt tells the convention.
void detect_open_reasoning(Prompt& prompt) {
  if (!ends_inside_reasoning(ReasoningConvention::kThinkTags, prompt.text)) return;
  prompt.reasoning = ReasoningConvention::kThinkTags;
  prompt.starts_inside_reasoning = true;
}

}  // namespace

Prompt build_prompt(const GenerateRequest& request, const Tokenizer* tokenizer, const ChatTemplate* template_or_null,
                    const std::string& bos, const std::string& eos, int vocab_size) {
  Prompt prompt;
  if (!request.prompt_ids.empty()) {
    prompt.ids = request.prompt_ids;
    for (const int32_t id : prompt.ids) {
      if (id < 0 || id >= vocab_size) {
        fail(ErrorCode::kInvalidArgument, "[prompt] token id {} is outside the vocabulary of {}", id, vocab_size);
      }
    }
    if (tokenizer != nullptr) prompt.text = tokenizer->decode(prompt.ids, false);
    detect_open_reasoning(prompt);
    return prompt;
  }
  if (tokenizer == nullptr) fail(ErrorCode::kNotFound, "[prompt] the model has no tokenizer; give token ids");
  const bool has_messages = request.messages.is_array() && !request.messages.as_array().empty();
  prompt.used_template = request.use_chat_template && template_or_null != nullptr;
  if (prompt.used_template) {
    SpecialTokenGuard guard(*tokenizer);
    ChatTemplate::Inputs inputs;
    inputs.messages = guard.protect(make_messages(request));
    inputs.tools = guard.protect(request.tools);
    if (!bos.empty()) inputs.bos_token = bos;
    if (!eos.empty()) inputs.eos_token = eos;
    inputs.kwargs = request.template_kwargs;
    inputs.now = request.now;
    const std::string rendered = template_or_null->render(inputs) + request.prefill_response;
    prompt.ids = guard.encode(rendered);
    prompt.text = guard.remove_marks(rendered);
    prompt.reasoning = detect_reasoning(template_or_null->source());
    prompt.starts_inside_reasoning = ends_inside_reasoning(prompt.reasoning, prompt.text);
  } else {
    if (has_messages) {
      fail(ErrorCode::kInvalidArgument, "[prompt] messages need a chat template, and {}; give a plain prompt",
           template_or_null == nullptr ? "the model has none" : "it is disabled");
    }
    prompt.text = request.prompt + request.prefill_response;
    prompt.ids = tokenizer->encode(prompt.text, {.add_special = true, .parse_special = true});
    // A prompt that brings its own BOS does not get a second one.
    const auto bos_id = tokenizer->bos_id();
    if (bos_id && prompt.ids.size() > 1 && prompt.ids[0] == *bos_id && prompt.ids[1] == *bos_id) {
      prompt.ids.erase(prompt.ids.begin());
    }
    detect_open_reasoning(prompt);
  }
  if (prompt.ids.empty())
    fail(ErrorCode::kInvalidArgument, "[prompt] the prompt is empty and the model has no BOS token to begin with");
  return prompt;
}

}  // namespace mobilellm
