// ChatFormat over the chat module.
#include "mobilellm/chat.h"

#include <utility>

#include "api/conversion.h"
#include "api/handles.h"
#include "base/error.h"
#include "model/loader.h"

namespace mobilellm {
namespace {

ChatTemplate::Inputs make_inputs(Json messages, const RenderOptions& options) {
  ChatTemplate::Inputs inputs;
  inputs.messages = std::move(messages);
  inputs.tools = parse_json_argument(options.tools_json, "tools_json", JsonKind::kArray);
  inputs.kwargs = parse_json_argument(options.template_args_json, "template_args_json", JsonKind::kObject);
  inputs.add_generation_prompt = options.add_generation_prompt;
  if (!options.now.empty()) inputs.now = WallClock::parse(options.now);
  return inputs;
}

}  // namespace

std::string ChatFormat::State::render(ChatTemplate::Inputs inputs) const {
  if (!bos_token.empty()) inputs.bos_token = bos_token;
  if (!eos_token.empty()) inputs.eos_token = eos_token;
  return chat_template->render(inputs);
}

ChatFormat::ChatFormat(std::shared_ptr<const State> state) : state_(std::move(state)) {}

ChatFormat ChatFormat::load(const std::string& path) {
  check_path(path);
  LoadedText text = load_text_parts(path);
  if (text.chat_template == nullptr) {
    fail(ErrorCode::kNotFound, "[template] {} has no chat template; add chat_template.jinja", path);
  }
  auto state = std::make_shared<State>();
  state->chat_template = std::move(text.chat_template);
  state->bos_token = std::move(text.bos_token);
  state->eos_token = std::move(text.eos_token);
  return ChatFormat(std::move(state));
}

std::string ChatFormat::render(const std::vector<ChatMessage>& messages, const RenderOptions& options) const {
  return state_->render(make_inputs(to_json(messages), options));
}

std::string ChatFormat::render_json(std::string_view messages_json, const RenderOptions& options) const {
  return state_->render(make_inputs(parse_json_argument(messages_json, "messages_json", JsonKind::kArray), options));
}

const std::string& ChatFormat::source() const { return state_->chat_template->source(); }

}  // namespace mobilellm
