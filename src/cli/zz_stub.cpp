#include "base/error.h"
#include "chat/template.h"
namespace mobilellm {
WallClock WallClock::parse(std::string_view) { return {}; }
std::shared_ptr<const ChatTemplate> ChatTemplate::parse(std::string s, std::string o) {
  auto t = std::shared_ptr<ChatTemplate>(new ChatTemplate);
  t->source_ = s;
  t->origin_ = o;
  return t;
}
std::shared_ptr<const ChatTemplate> ChatTemplate::from_config(const Json& v, std::string o, bool) {
  return parse(v.is_string() ? v.as_string() : "", o);
}
std::string ChatTemplate::render(const Inputs& in) const {
  std::string s;
  for (auto& m : in.messages.as_array())
    s += "<|im_start|>" + m.find("role")->as_string() + "\n" + m.find("content")->as_string() + "<|im_end|>\n";
  return s + "<|im_start|>assistant\n";
}
}  // namespace mobilellm
