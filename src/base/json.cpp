// Json on simdjson's DOM parser, and the writer.
#include "base/json.h"

#include <simdjson.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <unordered_set>

#include "base/error.h"
#include "base/files.h"

namespace mobilellm {
namespace {

constexpr size_t kMaxDepth = 128;

Json convert(simdjson::dom::element element, std::string_view origin) {
  using simdjson::dom::element_type;
  switch (element.type()) {
    case element_type::NULL_VALUE:
      return {};
    case element_type::BOOL:
      return Json(bool(element));
    case element_type::INT64:
      return Json(int64_t(element));
    case element_type::UINT64:
      return Json(double(uint64_t(element)));
    case element_type::DOUBLE:
      return Json(double(element));
    case element_type::STRING:
      return Json(std::string_view(element));
    case element_type::ARRAY: {
      Json::Array array;
      for (const simdjson::dom::element child : simdjson::dom::array(element)) array.push_back(convert(child, origin));
      return Json(std::move(array));
    }
    case element_type::OBJECT: {
      Json::Object object;
      std::unordered_set<std::string_view> seen;
      for (const auto& [key, child] : simdjson::dom::object(element)) {
        if (!seen.insert(key).second) fail(ErrorCode::kCorruptData, "[json] {}: key '{}' appears twice", origin, key);
        object.emplace_back(std::string(key), convert(child, origin));
      }
      return Json(std::move(object));
    }
  }
  return {};
}

void append_number(std::string& out, double value) {
  if (!std::isfinite(value)) {
    out += "null";
    return;
  }
  out += format_double(value);
}

void append_value(std::string& out, const Json& value, bool spaced, int indent, int level) {
  const auto new_line = [&](int at_level) {
    if (indent <= 0) return;
    out.push_back('\n');
    out.append(static_cast<size_t>(indent) * static_cast<size_t>(at_level), ' ');
  };
  const std::string_view item_separator = indent > 0 || !spaced ? "," : ", ";
  const std::string_view key_separator = indent > 0 || spaced ? ": " : ":";
  if (value.is_null()) {
    out += "null";
  } else if (value.is_bool()) {
    out += value.as_bool() ? "true" : "false";
  } else if (value.is_int()) {
    out += std::to_string(value.as_int());
  } else if (value.is_double()) {
    append_number(out, value.as_double());
  } else if (value.is_string()) {
    append_json_string(out, value.as_string());
  } else if (value.is_array()) {
    out.push_back('[');
    bool is_first = true;
    for (const Json& child : value.as_array()) {
      if (!is_first) out += item_separator;
      is_first = false;
      new_line(level + 1);
      append_value(out, child, spaced, indent, level + 1);
    }
    if (!is_first) new_line(level);
    out.push_back(']');
  } else {
    out.push_back('{');
    bool is_first = true;
    for (const auto& [key, child] : value.as_object()) {
      if (!is_first) out += item_separator;
      is_first = false;
      new_line(level + 1);
      append_json_string(out, key);
      out += key_separator;
      append_value(out, child, spaced, indent, level + 1);
    }
    if (!is_first) new_line(level);
    out.push_back('}');
  }
}

// simdjson refuses integers beyond 64 bits, which real files hold (tokenizer_config.json: "model_max_length":
// 1000000000000000019884624838656). With an exponent they are read as floating point.
std::string mark_big_integers(std::string_view text) {
  constexpr size_t kMaxDigits = 19;
  std::string out;
  out.reserve(text.size() + 16);
  bool is_in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    out.push_back(c);
    if (c == '"') {
      is_in_string = !is_in_string;
    } else if (is_in_string && c == '\\' && i + 1 < text.size()) {
      out.push_back(text[++i]);
    } else if (!is_in_string && c >= '0' && c <= '9') {
      // A whole number token, digits and signs and points alike.
      const size_t end = std::min(text.find_first_not_of("0123456789+-.eE", i), text.size());
      const std::string_view rest = text.substr(i + 1, end - i - 1);
      out += rest;
      if (rest.size() + 1 > kMaxDigits && rest.find_first_of(".eE") == std::string_view::npos) out += "e0";
      i = end - 1;
    }
  }
  return out;
}

[[noreturn]] void wrong_type(const Json& value, const char* expected) {
  fail(ErrorCode::kInternal, "[json] got {}, expected {}", value.type_name(), expected);
}

}  // namespace

Json::Json(uint64_t value) {
  if (value <= static_cast<uint64_t>(INT64_MAX)) {
    value_ = static_cast<int64_t>(value);
  } else {
    value_ = static_cast<double>(value);
  }
}

Json Json::parse(std::string_view text, std::string_view origin) {
  simdjson::dom::parser parser;
  if (parser.allocate(std::max<size_t>(text.size(), 64), kMaxDepth) != simdjson::SUCCESS) {
    fail(ErrorCode::kResourceLimit, "[json] {}: {} bytes are too large to parse", origin, text.size());
  }
  simdjson::dom::element element;
  simdjson::error_code error = parser.parse(text.data(), text.size(), true).get(element);
  if (error == simdjson::NUMBER_ERROR) error = parser.parse(mark_big_integers(text)).get(element);
  if (error != simdjson::SUCCESS) {
    if (error == simdjson::DEPTH_ERROR)
      fail(ErrorCode::kCorruptData, "[json] {}: nested deeper than {}", origin, kMaxDepth);
    fail(ErrorCode::kCorruptData, "[json] {}: not valid JSON: {}", origin, simdjson::error_message(error));
  }
  return convert(element, origin);
}

Json Json::parse_file(const std::string& path, size_t max_bytes) { return parse(read_file(path, max_bytes), path); }

const char* Json::type_name() const {
  constexpr const char* kNames[] = {"null", "bool", "integer", "number", "string", "array", "object"};
  return kNames[value_.index()];
}

bool Json::as_bool() const {
  if (!is_bool()) wrong_type(*this, "bool");
  return std::get<bool>(value_);
}

int64_t Json::as_int() const {
  if (!is_int()) wrong_type(*this, "integer");
  return std::get<int64_t>(value_);
}

double Json::as_double() const {
  if (is_int()) return static_cast<double>(std::get<int64_t>(value_));
  if (!is_double()) wrong_type(*this, "number");
  return std::get<double>(value_);
}

const std::string& Json::as_string() const {
  if (!is_string()) wrong_type(*this, "string");
  return std::get<std::string>(value_);
}

const Json::Array& Json::as_array() const {
  if (!is_array()) wrong_type(*this, "array");
  return std::get<Array>(value_);
}

Json::Array& Json::as_array() {
  if (!is_array()) wrong_type(*this, "array");
  return std::get<Array>(value_);
}

const Json::Object& Json::as_object() const {
  if (!is_object()) wrong_type(*this, "object");
  return std::get<Object>(value_);
}

Json::Object& Json::as_object() {
  if (!is_object()) wrong_type(*this, "object");
  return std::get<Object>(value_);
}

const Json* Json::find(std::string_view key) const {
  if (!is_object()) return nullptr;
  for (const auto& [name, value] : std::get<Object>(value_)) {
    if (name == key) return &value;
  }
  return nullptr;
}

Json& Json::set(std::string_view key, Json value) {
  if (is_null()) value_ = Object{};
  for (auto& [name, old] : as_object()) {
    if (name == key) {
      old = std::move(value);
      return *this;
    }
  }
  as_object().emplace_back(std::string(key), std::move(value));
  return *this;
}

Json& Json::push(Json value) {
  if (is_null()) value_ = Array{};
  as_array().push_back(std::move(value));
  return *this;
}

std::string Json::dump(bool spaced) const {
  std::string out;
  append_value(out, *this, spaced, 0, 0);
  return out;
}

std::string Json::dump_pretty(int indent) const {
  std::string out;
  append_value(out, *this, true, indent, 0);
  return out;
}

void append_json_string(std::string& out, std::string_view text) {
  out.push_back('"');
  for (const char c : text) {
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\b':
        out += "\\b";
        break;
      case '\f':
        out += "\\f";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          out += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
        } else {
          out.push_back(c);
        }
    }
  }
  out.push_back('"');
}

std::string format_double(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[64];
  const double magnitude = std::fabs(value);
  // Python's repr switches to an exponent outside [1e-4, 1e16).
  const bool is_plain = value == 0 || (magnitude >= 1e-4 && magnitude < 1e16);
  const auto result = std::to_chars(buffer, buffer + sizeof(buffer), value,
                                    is_plain ? std::chars_format::fixed : std::chars_format::scientific);
  std::string text(buffer, result.ptr);
  if (is_plain && text.find('.') == std::string::npos) text += ".0";
  return text;
}

JsonObjectReader::JsonObjectReader(const Json& object, std::string origin, std::string path)
    : object_(&object), origin_(std::move(origin)), path_(std::move(path)) {
  if (!object.is_object()) {
    fail(ErrorCode::kCorruptData, "[config] {}: {} got {}, expected object", origin_,
         path_.empty() ? "top level:" : path_ + ":", object.type_name());
  }
  is_read_.resize(object.as_object().size());
}

bool JsonObjectReader::has(std::string_view key) const {
  const Json* value = object_->find(key);
  return value != nullptr && !value->is_null();
}

bool JsonObjectReader::contains(std::string_view key) const { return object_->find(key) != nullptr; }

const Json* JsonObjectReader::find(std::string_view key) {
  ignore(key);
  const Json* value = object_->find(key);
  return value == nullptr || value->is_null() ? nullptr : value;
}

void JsonObjectReader::ignore(std::string_view key) {
  const Json::Object& members = object_->as_object();
  for (size_t i = 0; i < members.size(); ++i) {
    if (members[i].first == key) is_read_[i] = true;
  }
}

std::vector<std::string> JsonObjectReader::unread_keys() const {
  std::vector<std::string> keys;
  const Json::Object& members = object_->as_object();
  for (size_t i = 0; i < members.size(); ++i) {
    if (!is_read_[i]) keys.push_back(path_.empty() ? members[i].first : path_ + "." + members[i].first);
  }
  return keys;
}

void JsonObjectReader::fail_key(std::string_view key, std::string_view problem) const {
  fail(ErrorCode::kCorruptData, "[config] {}: {}{}{}: {}", origin_, path_, path_.empty() ? "" : ".", key, problem);
}

int64_t JsonObjectReader::get_int(std::string_view key, int64_t min, int64_t max) {
  const Json* value = find(key);
  if (value == nullptr) fail_key(key, fmt::format("missing, expected an integer in [{}, {}]", min, max));
  // Some writers store integers as 10000.0.
  if (value->is_double() && std::floor(value->as_double()) == value->as_double() &&
      std::fabs(value->as_double()) < 1e15) {
    const auto integer = static_cast<int64_t>(value->as_double());
    if (integer >= min && integer <= max) return integer;
  }
  if (!value->is_int() || value->as_int() < min || value->as_int() > max) {
    fail_key(key, fmt::format("got {}, expected an integer in [{}, {}]", value->dump(), min, max));
  }
  return value->as_int();
}

int64_t JsonObjectReader::get_int(std::string_view key, int64_t min, int64_t max, int64_t default_value) {
  return find(key) == nullptr ? default_value : get_int(key, min, max);
}

double JsonObjectReader::get_number(std::string_view key, double min, double max) {
  const Json* value = find(key);
  if (value == nullptr) fail_key(key, fmt::format("missing, expected a number in [{}, {}]", min, max));
  if (!value->is_number() || !(value->as_double() >= min && value->as_double() <= max)) {
    fail_key(key, fmt::format("got {}, expected a number in [{}, {}]", value->dump(), min, max));
  }
  return value->as_double();
}

double JsonObjectReader::get_number(std::string_view key, double min, double max, double default_value) {
  return find(key) == nullptr ? default_value : get_number(key, min, max);
}

bool JsonObjectReader::get_bool(std::string_view key, bool default_value) {
  const Json* value = find(key);
  if (value == nullptr) return default_value;
  if (!value->is_bool()) fail_key(key, fmt::format("got {}, expected true or false", value->dump()));
  return value->as_bool();
}

std::string JsonObjectReader::get_string(std::string_view key) {
  const Json* value = find(key);
  if (value == nullptr) fail_key(key, "missing, expected a string");
  if (!value->is_string()) fail_key(key, fmt::format("got {}, expected a string", value->dump()));
  return value->as_string();
}

std::string JsonObjectReader::get_string(std::string_view key, std::string_view default_value) {
  return find(key) == nullptr ? std::string(default_value) : get_string(key);
}

JsonObjectReader JsonObjectReader::get_object(std::string_view key) {
  const Json* value = find(key);
  if (value == nullptr) fail_key(key, "missing, expected an object");
  return {*value, origin_, path_.empty() ? std::string(key) : path_ + "." + std::string(key)};
}

}  // namespace mobilellm
