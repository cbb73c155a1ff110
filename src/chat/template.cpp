// Chat templates: the steps around plain Jinja that transformers takes.
#include "chat/template.h"

#include <algorithm>
#include <charconv>
#include <ctime>

#include "base/error.h"
#include "chat/jinja/parser.h"
#include "chat/jinja/runtime.h"
#include "chat/jinja/unicode.h"

namespace mobilellm {
namespace {

// What transformers appends to the last message to find it in the prompt again.
constexpr std::string_view kContinueTag = "CONTINUE_FINAL_MESSAGE_TAG ";

// Drops null values; gives the reasoning text under each name that templates read.
Json normalize_message(const Json& message) {
  Json::Object kept;
  for (const auto& [key, value] : message.as_object()) {
    if (!value.is_null()) kept.emplace_back(key, value);
  }
  Json result(std::move(kept));
  const Json* reasoning = nullptr;
  for (const std::string_view name : {"reasoning_content", "thinking", "reasoning"}) {
    if (reasoning == nullptr) reasoning = result.find(name);
  }
  if (reasoning == nullptr) return result;
  const Json text = *reasoning;
  if (result.find("thinking") == nullptr) {
    Json::Object& members = result.as_object();
    members.insert(members.begin(), Json::Member("thinking", text));
  }
  result.set("reasoning_content", text);
  return result;
}

[[noreturn]] void fail_input(const std::string& origin, std::string_view message) {
  fail(ErrorCode::kInvalidArgument, "[template] {}: {}", origin, message);
}

// Marks the end of the last message's text; returns that text.
std::string mark_final_message(Json& messages, const std::string& origin) {
  Json& message = messages.as_array().back();
  const Json* content = message.find("content");
  if (content == nullptr) {
    fail_input(origin, "continue_final_message is set but the final message has no \"content\" to continue");
  }
  if (content->is_string()) {
    const std::string text = content->as_string();
    message.set("content", text + std::string(kContinueTag));
    return text;
  }
  if (content->is_array()) {
    Json parts = *content;
    for (auto part = parts.as_array().rbegin(); part != parts.as_array().rend(); ++part) {
      const Json* text = part->find("text");
      if (text == nullptr || !text->is_string()) continue;
      const std::string copy = text->as_string();
      part->set("text", copy + std::string(kContinueTag));
      message.set("content", std::move(parts));
      return copy;
    }
  }
  fail_input(origin, "continue_final_message is set but the final message has no text to continue");
}

std::string_view strip(std::string_view text) { return jinja::strip_right(jinja::strip_left(text)); }

// Cuts the prompt behind the last message's text.
std::string cut_after_final_message(std::string prompt, std::string_view text, const std::string& origin) {
  const std::string_view tag = strip(kContinueTag);
  const size_t at = prompt.rfind(tag);
  if (at == std::string::npos || prompt.find(strip(text)) == std::string::npos) {
    fail_input(origin, "continue_final_message is set but the final message does not appear in the prompt");
  }
  const bool keeps_spaces = std::string_view(prompt).substr(at, kContinueTag.size()) == kContinueTag;
  prompt.resize(at);
  if (!keeps_spaces) prompt.resize(jinja::strip_right(prompt).size());
  return prompt;
}

}  // namespace

WallClock WallClock::now() {
  const std::time_t seconds = std::time(nullptr);
  std::tm parts{};
  if (localtime_r(&seconds, &parts) == nullptr) return {};
  return {parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec};
}

WallClock WallClock::parse(std::string_view text) {
  const auto fail_clock = [&]() {
    fail(ErrorCode::kInvalidArgument, "[template] time: got \"{}\", expected \"YYYY-MM-DD HH:MM:SS\"", text);
  };
  const auto read = [&](size_t at, size_t n, int min, int max) {
    int value = 0;
    const std::string_view digits = text.substr(std::min(at, text.size()), n);
    const auto result = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (digits.size() != n || result.ptr != digits.data() + n || value < min || value > max) fail_clock();
    return value;
  };
  const auto expect = [&](size_t at, char c) {
    if (text.size() <= at || (text[at] != c && !(c == ' ' && text[at] == 'T'))) fail_clock();
  };
  WallClock clock;
  clock.year = read(0, 4, 1, 9999);
  expect(4, '-');
  clock.month = read(5, 2, 1, 12);
  expect(7, '-');
  static constexpr int kDays[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  const bool is_leap = (clock.year % 4 == 0 && clock.year % 100 != 0) || clock.year % 400 == 0;
  clock.day = read(8, 2, 1, kDays[clock.month - 1] + (clock.month == 2 && is_leap ? 1 : 0));
  if (text.size() == 10) return clock;
  expect(10, ' ');
  clock.hour = read(11, 2, 0, 23);
  expect(13, ':');
  clock.minute = read(14, 2, 0, 59);
  expect(16, ':');
  clock.second = read(17, 2, 0, 60);
  if (text.size() != 19) fail_clock();
  return clock;
}

std::shared_ptr<const ChatTemplate> ChatTemplate::parse(std::string source, std::string origin) {
  std::shared_ptr<ChatTemplate> result(new ChatTemplate);
  result->program_ = jinja::parse_template(source, origin);
  result->source_ = std::move(source);
  result->origin_ = std::move(origin);
  return result;
}

std::shared_ptr<const ChatTemplate> ChatTemplate::from_config(const Json& value, std::string origin, bool has_tools) {
  if (value.is_null()) return nullptr;
  if (value.is_string()) return parse(value.as_string(), std::move(origin));
  if (!value.is_array()) {
    fail(ErrorCode::kCorruptData, "[template] {}: chat_template: got {}, expected string or array", origin,
         value.type_name());
  }
  const auto find = [&](std::string_view wanted) -> const std::string* {
    for (const Json& entry : value.as_array()) {
      const Json* name = entry.find("name");
      const Json* source = entry.find("template");
      if (name == nullptr || !name->is_string() || source == nullptr || !source->is_string()) {
        fail(ErrorCode::kCorruptData, "[template] {}: chat_template: each entry needs the strings name and template",
             origin);
      }
      if (name->as_string() == wanted) return &source->as_string();
    }
    return nullptr;
  };
  const std::string* source = has_tools ? find("tool_use") : nullptr;
  if (source == nullptr) source = find("default");
  if (source == nullptr && value.as_array().size() == 1) source = &value.as_array()[0].find("template")->as_string();
  if (source == nullptr) {
    fail(ErrorCode::kCorruptData, "[template] {}: chat_template: no template named \"default\"", origin);
  }
  return parse(*source, std::move(origin));
}

std::string ChatTemplate::render(const Inputs& inputs) const {
  if (!inputs.messages.is_array()) fail_input(origin_, "messages must be an array");
  if (inputs.messages.as_array().empty()) {
    fail_input(origin_, "Cannot apply chat template to an empty conversation. Provide at least one message.");
  }
  if (!inputs.kwargs.is_null() && !inputs.kwargs.is_object()) fail_input(origin_, "kwargs must be an object");
  if (inputs.continue_final_message && inputs.add_generation_prompt) {
    fail_input(origin_, "continue_final_message and add_generation_prompt are not compatible");
  }
  Json::Array normalized;
  for (const Json& message : inputs.messages.as_array()) {
    if (!message.is_object()) fail_input(origin_, "each message must be an object");
    normalized.push_back(normalize_message(message));
  }
  Json messages(std::move(normalized));
  std::string final_text;
  if (inputs.continue_final_message) {
    if (source_.find("content") == std::string::npos) {
      fail_input(origin_, "continue_final_message is set but the template does not use \"content\"");
    }
    final_text = mark_final_message(messages, origin_);
  }
  Json::Object variables;
  variables.emplace_back("messages", std::move(messages));
  variables.emplace_back("tools", inputs.tools);
  variables.emplace_back("documents", inputs.documents);
  variables.emplace_back("add_generation_prompt", inputs.add_generation_prompt);
  if (inputs.bos_token) variables.emplace_back("bos_token", *inputs.bos_token);
  if (inputs.eos_token) variables.emplace_back("eos_token", *inputs.eos_token);
  Json context(std::move(variables));
  if (inputs.kwargs.is_object()) {
    for (const auto& [key, value] : inputs.kwargs.as_object()) context.set(key, value);
  }
  std::string prompt = render_plain(context, inputs.now);
  return inputs.continue_final_message ? cut_after_final_message(std::move(prompt), final_text, origin_) : prompt;
}

std::string ChatTemplate::render_plain(const Json& variables, const std::optional<WallClock>& now) const {
  jinja::Runtime runtime(*program_, now);
  for (const auto& [name, value] : variables.as_object()) runtime.set_variable(name, value);
  return runtime.render();
}

bool ChatTemplate::mentions(std::string_view variable) const {
  return program_->names.find(variable) != program_->names.end();
}

}  // namespace mobilellm
