// mobilellm template: chat messages rendered with a model's chat template.
#include "chat/template.h"

#include <optional>
#include <string>

#include "base/error.h"
#include "base/files.h"
#include "base/json.h"
#include "cli/args.h"
#include "cli/commands/commands.h"
#include "cli/line_reader.h"
#include "cli/terminal.h"
#include "model/loader.h"

namespace mobilellm::cli {
namespace {

constexpr size_t kMaxTemplateBytes = size_t{4} << 20;

struct TemplateFlags {
  std::optional<std::string> model_path;
  std::optional<std::string> file;
  std::optional<std::string> now;
  std::string input = "-";
  bool jsonl = false;
  bool json = false;
  bool show = false;
};

struct Rendering {
  std::shared_ptr<const ChatTemplate> chat_template;
  std::optional<std::string> bos_token, eos_token;  // Of the model, where an object names none.
  std::optional<WallClock> now;
};

std::optional<std::string> optional_string(JsonObjectReader& reader, std::string_view key,
                                           const std::optional<std::string>& otherwise) {
  return reader.has(key) ? std::optional(reader.get_string(key)) : otherwise;
}

Json optional_value(JsonObjectReader& reader, std::string_view key) {
  const Json* value = reader.find(key);
  return value == nullptr ? Json() : *value;
}

ChatTemplate::Inputs inputs_from_json(const Json& object, const std::string& origin, const Rendering& rendering) {
  ChatTemplate::Inputs inputs;
  inputs.now = rendering.now;
  inputs.bos_token = rendering.bos_token;
  inputs.eos_token = rendering.eos_token;
  if (object.is_array()) {  // Messages alone.
    inputs.messages = object;
    return inputs;
  }
  if (!object.is_object()) {
    fail(ErrorCode::kCorruptData, "[template] {}: got {}, expected an object", origin, object.type_name());
  }
  JsonObjectReader reader(object, "[template] " + origin);
  const Json* messages = reader.find("messages");
  if (messages == nullptr) reader.fail_key("messages", "is missing");
  inputs.messages = *messages;
  inputs.tools = optional_value(reader, "tools");
  inputs.documents = optional_value(reader, "documents");
  inputs.kwargs = optional_value(reader, "kwargs");
  inputs.continue_final_message = reader.get_bool("continue_final_message", false);
  inputs.add_generation_prompt = reader.get_bool("add_generation_prompt", false);
  inputs.bos_token = optional_string(reader, "bos_token", rendering.bos_token);
  inputs.eos_token = optional_string(reader, "eos_token", rendering.eos_token);
  return inputs;
}

// A template that refuses its input is a result; a line that cannot be read is a failure, shown by the exit status.
int answer_lines(const std::string& path, const Rendering& rendering) {
  LineReader lines(path);
  int status = 0;
  while (const std::optional<std::string> line = lines.next()) {
    if (line->find_first_not_of(" \t") == std::string::npos) continue;
    Json answer;
    try {
      const Json object = Json::parse(*line, lines.where());
      answer.set("rendered", rendering.chat_template->render(inputs_from_json(object, lines.where(), rendering)));
    } catch (const Error& error) {
      answer = Json::object().set("error", error.what());
      if (error.code() == ErrorCode::kCorruptData) status = 1;
    }
    print(json_line(answer));
  }
  return status;
}

}  // namespace

int run_template(int argc, const char* const* argv) {
  TemplateFlags flags;
  Args args("template", "Renders chat messages, given as JSON on standard input, with a chat template.",
            "(--model-path PATH | --file FILE.jinja) [flags]");
  args.text("--model-path,--model", "PATH", flags.model_path, "model folder or .gguf file that has a chat template");
  args.text("--file", "FILE", flags.file, "a Jinja template file instead");
  args.text("--input", "FILE", flags.input, "read from this file instead of standard input");
  args.flag("--jsonl", flags.jsonl, "one JSON object a line in, one a line out");
  args.text("--now", "TIME", flags.now, "the time a template sees, \"2025-09-12 10:20:30\" (default: now)");
  args.flag("--json", flags.json, "print {\"rendered\": TEXT} instead of the text");
  args.flag("--show", flags.show, "print the template itself and read no input");
  args.example("echo '[{\"role\": \"user\", \"content\": \"Hi\"}]' |");
  args.example("  mobilellm template --model-path MODEL");
  args.example("mobilellm template --file chat.jinja --jsonl < requests.jsonl");
  args.note(
      "An object may have: messages, tools, documents, add_generation_prompt, continue_final_message, bos_token, "
      "eos_token, kwargs (further variables). A plain array is taken as messages, and then the generation prompt "
      "is added. --jsonl writes {\"rendered\": TEXT} or {\"error\": MESSAGE} for each line; the exit status is 1 "
      "when a line was not such an object.");
  if (!args.parse(argc, argv)) return 0;
  if (flags.model_path.has_value() == flags.file.has_value()) {
    args.fail_usage("expected exactly one of --model-path and --file");
  }

  Rendering rendering;
  if (flags.now) rendering.now = WallClock::parse(*flags.now);
  if (flags.file) {
    rendering.chat_template = ChatTemplate::parse(read_file(*flags.file, kMaxTemplateBytes), *flags.file);
  } else {
    LoadedText loaded = load_text_parts(*flags.model_path);
    if (loaded.chat_template == nullptr) {
      fail(ErrorCode::kNotFound, "[template] {} has no chat template", *flags.model_path);
    }
    rendering.chat_template = std::move(loaded.chat_template);
    rendering.bos_token = std::move(loaded.bos_token);
    rendering.eos_token = std::move(loaded.eos_token);
  }
  if (flags.show) {
    print(rendering.chat_template->source() + "\n");
    return 0;
  }
  if (flags.jsonl) return answer_lines(flags.input, rendering);

  const std::string origin = flags.input == "-" ? "standard input" : flags.input;
  const Json object = Json::parse(read_input(flags.input), origin);
  const std::string text = rendering.chat_template->render(inputs_from_json(object, origin, rendering));
  print(flags.json ? json_line(Json::object().set("rendered", text)) : text);
  return 0;
}

}  // namespace mobilellm::cli
