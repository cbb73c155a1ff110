/// A JSON value with insertion-ordered objects: configs, template contexts and machine-readable output.
/// Vocabularies and safetensors headers are too large for it; their loaders walk the text with simdjson directly.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace mobilellm {

class Json {
 public:
  using Array = std::vector<Json>;
  using Member = std::pair<std::string, Json>;
  using Object = std::vector<Member>;  ///< In the order of the text; keys are unique.

  Json() = default;
  Json(std::nullptr_t) {}
  Json(bool value) : value_(value) {}
  Json(int value) : value_(int64_t{value}) {}
  Json(int64_t value) : value_(value) {}
  Json(uint64_t value);
  Json(double value) : value_(value) {}
  Json(const char* value) : value_(std::string(value)) {}
  Json(std::string value) : value_(std::move(value)) {}
  Json(std::string_view value) : value_(std::string(value)) {}
  Json(Array value) : value_(std::move(value)) {}
  Json(Object value) : value_(std::move(value)) {}
  static Json array() { return Json(Array{}); }
  static Json object() { return Json(Object{}); }

  /// Parses one JSON text (RFC 8259, UTF-8). `origin` (a file name or "line 3 of x.jsonl") leads every error.
  /// Throws kCorruptData on malformed text, duplicate keys, or nesting deeper than 128.
  /// Integers outside int64 become doubles.
  static Json parse(std::string_view text, std::string_view origin);
  /// Reads and parses a file of at most `max_bytes`.
  static Json parse_file(const std::string& path, size_t max_bytes = size_t{256} << 20);

  bool is_null() const { return value_.index() == 0; }
  bool is_bool() const { return std::holds_alternative<bool>(value_); }
  bool is_int() const { return std::holds_alternative<int64_t>(value_); }
  bool is_double() const { return std::holds_alternative<double>(value_); }
  bool is_number() const { return is_int() || is_double(); }
  bool is_string() const { return std::holds_alternative<std::string>(value_); }
  bool is_array() const { return std::holds_alternative<Array>(value_); }
  bool is_object() const { return std::holds_alternative<Object>(value_); }
  /// "null", "bool", "integer", "number", "string", "array" or "object".
  const char* type_name() const;

  /// Unchecked in type only by the caller: throw kInternal when the value has another type.
  bool as_bool() const;
  int64_t as_int() const;
  double as_double() const;  ///< Also of an integer.
  const std::string& as_string() const;
  const Array& as_array() const;
  Array& as_array();
  const Object& as_object() const;
  Object& as_object();

  /// Member of an object, or nullptr when absent or not an object.
  const Json* find(std::string_view key) const;
  /// Adds or replaces a member; a null value becomes an object first.
  Json& set(std::string_view key, Json value);
  /// Appends to an array; a null value becomes an array first.
  Json& push(Json value);

  /// Compact text with ", " and ": " when `spaced` (as Python's json.dumps), else without spaces.
  /// Non-ASCII stays as UTF-8. Numbers print in the shortest form that reads back equal; NaN and infinities as null.
  std::string dump(bool spaced = false) const;
  /// Multi-line text.
  std::string dump_pretty(int indent = 2) const;

  bool operator==(const Json& other) const = default;

 private:
  std::variant<std::monostate, bool, int64_t, double, std::string, Array, Object> value_;
};

/// Appends `text` as a JSON string literal with quotes.
void append_json_string(std::string& out, std::string_view text);
/// Shortest text that reads back equal, with ".0" when it would look like an integer (as Python prints floats).
std::string format_double(double value);

/// Reads the members of one object with types checked, and remembers which were read.
/// Every error names the origin and the full path of the key: "[config] config.json: rope_scaling.factor: got string,
/// expected number".
class JsonObjectReader {
 public:
  JsonObjectReader(const Json& object, std::string origin, std::string path = "");

  bool has(std::string_view key) const;       ///< Present and not null.
  bool contains(std::string_view key) const;  ///< Present, maybe null.
  const Json* find(std::string_view key);     ///< Marks the key as read; nullptr when absent or null.

  /// The value, the default when absent or null; throw kCorruptData for a wrong type or a value outside [min, max].
  int64_t get_int(std::string_view key, int64_t min, int64_t max);
  int64_t get_int(std::string_view key, int64_t min, int64_t max, int64_t default_value);
  double get_number(std::string_view key, double min, double max);
  double get_number(std::string_view key, double min, double max, double default_value);
  bool get_bool(std::string_view key, bool default_value);
  std::string get_string(std::string_view key);
  std::string get_string(std::string_view key, std::string_view default_value);
  /// A nested object, by its own reader; throws when absent or of another type.
  JsonObjectReader get_object(std::string_view key);

  void ignore(std::string_view key);             ///< Marks a harmless key as known.
  std::vector<std::string> unread_keys() const;  ///< Keys nobody asked for, in file order.
  [[noreturn]] void fail_key(std::string_view key, std::string_view problem) const;  ///< Throws kCorruptData.
  const std::string& origin() const { return origin_; }

 private:
  const Json* object_;
  std::string origin_;
  std::string path_;
  std::vector<bool> is_read_;
};

}  // namespace mobilellm
