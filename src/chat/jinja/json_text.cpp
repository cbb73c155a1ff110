// json.dumps with the options that chat templates use.
#include <algorithm>
#include <cmath>

#include "base/utf8.h"
#include "chat/jinja/format.h"

namespace mobilellm::jinja {
namespace {

class JsonWriter {
 public:
  JsonWriter(Runtime& runtime, const JsonStyle& style) : runtime_(runtime), style_(style) {}

  void write(const Value& value, size_t level) {
    runtime_.budget().step();
    runtime_.budget().check_text(out_.size());
    switch (value.type()) {
      case Type::kNone:
        out_ += "null";
        break;
      case Type::kBool:
        out_ += value.as_int() != 0 ? "true" : "false";
        break;
      case Type::kInt:
        out_ += std::to_string(value.as_int());
        break;
      case Type::kFloat:
        out_ += number(value.as_double());
        break;
      case Type::kString:
        write_string(value.view());
        break;
      case Type::kList:
      case Type::kTuple:
        write_array(value.items(), level);
        break;
      case Type::kDict:
        write_object(value.dict(), level);
        break;
      default:
        runtime_.raise("Object of type {} is not JSON serializable", type_name(value));
    }
  }

  std::string take() { return std::move(out_); }

 private:
  static std::string number(double value) {
    if (std::isnan(value)) return "NaN";
    if (std::isinf(value)) return value > 0 ? "Infinity" : "-Infinity";
    return float_repr(value);
  }

  void new_line(size_t level) {
    if (!style_.has_indent) return;
    out_.push_back('\n');
    for (size_t i = 0; i < level; ++i) out_ += style_.indent;
  }

  void write_array(const std::vector<Value>& items, size_t level) {
    if (items.empty()) {
      out_ += "[]";
      return;
    }
    out_ += "[";
    for (size_t i = 0; i < items.size(); ++i) {
      if (i > 0) out_ += style_.item_separator;
      new_line(level + 1);
      write(items[i], level + 1);
    }
    new_line(level);
    out_ += "]";
  }

  void write_object(const Dict& dict, size_t level) {
    if (dict.size() == 0) {
      out_ += "{}";
      return;
    }
    std::vector<Value> keys;
    std::vector<Value> values;
    for (const auto& [key, value] : dict.entries()) {
      keys.push_back(key);
      values.push_back(value);
    }
    if (style_.sorts_keys) runtime_.sort(values, keys, false);
    out_ += "{";
    for (size_t i = 0; i < keys.size(); ++i) {
      if (i > 0) out_ += style_.item_separator;
      new_line(level + 1);
      write_key(keys[i]);
      out_ += style_.key_separator;
      write(values[i], level + 1);
    }
    new_line(level);
    out_ += "}";
  }

  void write_key(const Value& key) {
    switch (key.type()) {
      case Type::kString:
        write_string(key.view());
        return;
      case Type::kNone:
        write_string("null");
        return;
      case Type::kBool:
        write_string(key.as_int() != 0 ? "true" : "false");
        return;
      case Type::kInt:
        write_string(std::to_string(key.as_int()));
        return;
      case Type::kFloat:
        write_string(number(key.as_double()));
        return;
      default:
        runtime_.raise("keys must be str, int, float, bool or None, not {}", type_name(key));
    }
  }

  void write_string(std::string_view text) {
    runtime_.budget().step_bytes(text.size());
    out_.push_back('"');
    for (size_t at = 0; at < text.size();) {
      const auto c = static_cast<unsigned char>(text[at]);
      if (c >= 0x80) {
        const Utf8Char character = decode_utf8(text, at);
        if (style_.is_ascii) {
          write_unicode(static_cast<uint32_t>(character.code_point));
        } else {
          out_.append(text.substr(at, static_cast<size_t>(character.n_bytes)));
        }
        at += static_cast<size_t>(character.n_bytes);
        continue;
      }
      ++at;
      static constexpr std::string_view kEscaped = "\"\\\n\r\t\f\b";
      static constexpr std::string_view kLetters = "\"\\nrtfb";
      const size_t escape = kEscaped.find(static_cast<char>(c));
      if (escape != std::string_view::npos) {
        out_.push_back('\\');
        out_.push_back(kLetters[escape]);
      } else if (c < 0x20) {
        out_ += fmt::format("\\u{:04x}", c);
      } else {
        out_.push_back(static_cast<char>(c));
      }
    }
    out_.push_back('"');
  }

  void write_unicode(uint32_t code) {
    if (code >= 0x10000) {
      code -= 0x10000;
      out_ += fmt::format("\\u{:04x}\\u{:04x}", 0xD800 + (code >> 10), 0xDC00 + (code & 0x3FF));
    } else {
      out_ += fmt::format("\\u{:04x}", code);
    }
  }

  Runtime& runtime_;
  const JsonStyle& style_;
  std::string out_;
};

}  // namespace

std::string to_json_text(Runtime& runtime, const Value& value, const JsonStyle& style) {
  JsonWriter writer(runtime, style);
  writer.write(value, 0);
  return writer.take();
}

}  // namespace mobilellm::jinja
