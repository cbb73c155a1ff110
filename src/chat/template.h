/// Chat templates: messages and tools rendered to the prompt text, as transformers' apply_chat_template does.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/json.h"
#include "mobilellm/error.h"

namespace mobilellm {

namespace jinja {
struct Template;
}  // namespace jinja

/// A template refused its input by calling raise_exception(reason).
class MOBILELLM_API TemplateRefusal : public Error {
 public:
  TemplateRefusal(const std::string& message, std::string reason)
      : Error(ErrorCode::kTemplate, message), reason_(std::move(reason)) {}
  /// The template's own words; what() adds the place.
  const std::string& reason() const noexcept { return reason_; }

 private:
  std::string reason_;
};

/// A local date and time, the only thing about the machine that a template can learn.
struct WallClock {
  int year = 1970;
  int month = 1;   ///< 1..12
  int day = 1;     ///< 1..31
  int hour = 0;    ///< 0..23
  int minute = 0;  ///< 0..59
  int second = 0;  ///< 0..60

  /// The machine's local time.
  static WallClock now();
  /// Reads "2025-09-12 10:20:30" or "2025-09-12"; throws kInvalidArgument for anything else.
  static WallClock parse(std::string_view text);
};

/// A parsed chat template: immutable, may be rendered from several threads at once.
/// A template is untrusted: it sees only the inputs, and its steps, depth, memory and output are bounded.
class ChatTemplate {
 public:
  struct Inputs {
    Json messages;                      ///< Array of objects; must not be empty.
    Json tools;                         ///< Array of tool schemas, or null.
    Json documents;                     ///< Array of objects, or null.
    bool add_generation_prompt = true;  ///< End with the header of the answer to come.
    /// Leave the last message open, so that the model goes on with it. Excludes add_generation_prompt.
    bool continue_final_message = false;
    std::optional<std::string> bos_token;  ///< Undefined in the template when absent.
    std::optional<std::string> eos_token;
    Json kwargs;                   ///< Object of further variables (they win over the above), or null.
    std::optional<WallClock> now;  ///< For strftime_now; the machine's clock when absent.
  };

  /// `origin` (a file name) leads every error: "[template] <origin>:<line>: message". Throws kTemplate on bad syntax,
  /// kResourceLimit on a source above 4 MB or nesting deeper than 100.
  static std::shared_ptr<const ChatTemplate> parse(std::string source, std::string origin);

  /// Chooses from the value of `chat_template` in tokenizer_config.json: a string, or a list of {name, template}, of
  /// which "tool_use" is taken when tools are given and it exists, else "default". Null when the value is null.
  /// Throws kCorruptData for other values.
  static std::shared_ptr<const ChatTemplate> from_config(const Json& value, std::string origin, bool has_tools = false);

  /// The prompt. As transformers does, drops message keys with null values and gives a reasoning text under the names
  /// `reasoning_content` and `thinking` too. Throws kTemplate when the template fails or refuses (raise_exception),
  /// kInvalidArgument for unusable inputs, kResourceLimit when it exceeds a bound.
  std::string render(const Inputs& inputs) const;

  /// Renders with exactly these variables (an object) and no steps before: plain Jinja.
  std::string render_plain(const Json& variables, const std::optional<WallClock>& now = {}) const;

  const std::string& source() const { return source_; }
  const std::string& origin() const { return origin_; }
  /// Whether the template uses this variable anywhere, e.g. "enable_thinking".
  bool mentions(std::string_view variable) const;

 private:
  ChatTemplate() = default;

  std::string source_;
  std::string origin_;
  std::shared_ptr<const jinja::Template> program_;
};

}  // namespace mobilellm
