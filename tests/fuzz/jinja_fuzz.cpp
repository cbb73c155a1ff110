// Fuzzes chat templates: the source is the input, rendered with a small conversation.
#include "base/error.h"
#include "chat/template.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using mobilellm::ChatTemplate;
  using mobilellm::Json;
  static const Json kVariables = Json::parse(
      R"({"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": " x é "}], "n": 3, "f": 1.5,
          "tools": null, "xs": [3, 1, 2], "d": {"b": 1, "a": [1, null, true]}, "s": "Hello World", "add_generation_prompt": true})",
      "fuzz");
  static const auto kNow = mobilellm::WallClock::parse("2025-09-12 10:20:30");
  try {
    ChatTemplate::parse(std::string(reinterpret_cast<const char*>(data), size), "fuzz")->render_plain(kVariables, kNow);
  } catch (const mobilellm::Error& error) {
    if (error.code() == mobilellm::ErrorCode::kInternal) throw;
  }
  return 0;
}
