// A rendering's state: variables from JSON, iteration, and Python's str() and repr().
#include "chat/jinja/runtime.h"

#include <cmath>

#include "base/utf8.h"
#include "chat/jinja/builtins.h"
#include "chat/jinja/lexer.h"
#include "chat/jinja/loop.h"
#include "chat/jinja/unicode.h"

namespace mobilellm::jinja {
namespace {

// Writes repr into one buffer with its bounds checked.
class ReprWriter {
 public:
  explicit ReprWriter(Budget& budget) : budget_(budget) {}

  void write(const Value& value) {
    budget_.step();
    budget_.check_text(out_.size());
    switch (value.type()) {
      case Type::kMissing:
      case Type::kUndefined:
        out_ += "Undefined";
        break;
      case Type::kNone:
        out_ += "None";
        break;
      case Type::kBool:
        out_ += value.as_int() != 0 ? "True" : "False";
        break;
      case Type::kInt:
        out_ += std::to_string(value.as_int());
        break;
      case Type::kFloat:
        out_ += float_repr(value.as_double());
        break;
      case Type::kString:
        budget_.step_bytes(value.view().size());
        if (value.text().is_safe()) out_ += "Markup(";
        append_repr(out_, value.view());
        if (value.text().is_safe()) out_ += ")";
        break;
      case Type::kList:
        write_items("[", value.items(), "]");
        break;
      case Type::kTuple:
        write_items("(", value.items(), value.items().size() == 1 ? ",)" : ")");
        break;
      case Type::kView:
        out_ += type_name(value);
        write_items("([", value.items(), "])");
        break;
      case Type::kDict:
        write_dict(value.dict());
        break;
      case Type::kRange: {
        const Range& range = value.range();
        out_ += fmt::format("range({}, {}", range.start, range.stop);
        out_ += range.step == 1 ? ")" : fmt::format(", {})", range.step);
        break;
      }
      case Type::kIterator:
        out_ += fmt::format("<{} object>", value.iterator().name());
        break;
      case Type::kNamespace:
        write_namespace(value.name_space());
        break;
      case Type::kLoop:
        out_ += fmt::format("<LoopContext {}/{}>", value.loop().index0 + 1, value.loop().length());
        break;
      case Type::kMacro:
        out_ += fmt::format("<Macro '{}'>", value.macro().signature().name);
        break;
      case Type::kCallable:
        out_ += fmt::format("<built-in function {}>", value.callable().name());
        break;
    }
  }

  std::string take() { return std::move(out_); }

 private:
  void write_items(std::string_view open, const std::vector<Value>& items, std::string_view close) {
    out_ += open;
    for (size_t i = 0; i < items.size(); ++i) {
      if (i > 0) out_ += ", ";
      write(items[i]);
    }
    out_ += close;
  }

  void write_dict(const Dict& dict) {
    out_ += "{";
    bool is_first = true;
    for (const auto& [key, value] : dict.entries()) {
      if (!is_first) out_ += ", ";
      is_first = false;
      write(key);
      out_ += ": ";
      write(value);
    }
    out_ += "}";
  }

  void write_namespace(const Namespace& object) {
    // A namespace may hold itself.
    if (++n_namespaces_ > 16) Budget::fail_limit("namespaces nested too deeply to print");
    out_ += "<Namespace {";
    bool is_first = true;
    for (const auto& [key, value] : object.attributes()) {
      if (!is_first) out_ += ", ";
      is_first = false;
      append_repr(out_, key);
      out_ += ": ";
      write(value);
    }
    out_ += "}>";
    --n_namespaces_;
  }

  Budget& budget_;
  std::string out_;
  int n_namespaces_ = 0;
};

}  // namespace

const Macro& Value::macro() const { return static_cast<const Macro&>(*heap_); }

Runtime::Runtime(const Template& program, const std::optional<WallClock>& now)
    : program_(program), now_(now ? *now : WallClock::now()) {}

Runtime::~Runtime() {
  // Namespaces may hold each other in a circle; nothing else can.
  for (const Value& value : namespaces_) value.name_space().clear();
}

void Runtime::set_variable(std::string_view name, const Json& value) {
  try {
    context_.set(name, from_json(value));
  } catch (const LimitExceeded& error) {
    fail(error.code(), "[template] {}: variable \"{}\": {} while rendering", program_.origin, name, error.bound());
  }
}

Value Runtime::from_json(const Json& json) {
  budget_.step();
  if (json.is_null()) return Value::none();
  if (json.is_bool()) return Value(json.as_bool());
  if (json.is_int()) return Value(json.as_int());
  if (json.is_double()) return Value(json.as_double());
  if (json.is_string()) {
    const std::string& string = json.as_string();
    return text(is_valid_utf8(string) ? string : repair_utf8(string));
  }
  if (json.is_array()) {
    std::vector<Value> items;
    items.reserve(json.as_array().size());
    for (const Json& item : json.as_array()) items.push_back(from_json(item));
    return list(std::move(items));
  }
  Value result = make<Dict>(Type::kDict, &budget_);
  Dict& dict = const_cast<Dict&>(result.dict());
  for (const auto& [key, value] : json.as_object()) {
    dict.set(text(is_valid_utf8(key) ? key : repair_utf8(key)), from_json(value));
  }
  return result;
}

void Runtime::raise_text(const std::string& message) const { fail_at(program_.origin, line_, message); }

void Runtime::refuse(const std::string& reason) const {
  throw TemplateRefusal(fmt::format("[template] {}:{}: {}", program_.origin, line_, reason), reason);
}

Value Runtime::new_namespace() {
  namespaces_.push_back(make<Namespace>(Type::kNamespace, &budget_));
  return namespaces_.back();
}

std::vector<Value> Runtime::elements(const Value& value) {
  if (value.is_sequence() || value.is(Type::kView)) {
    budget_.check_items(value.items().size());
    return value.items();
  }
  std::vector<Value> result;
  const Iterator::Next next = iterate(value);
  Value element;
  while (next(element)) {
    budget_.step(4);
    result.push_back(std::move(element));
  }
  return result;
}

Iterator::Next Runtime::iterate(const Value& value) {
  switch (value.type()) {
    case Type::kUndefined:
      return [](Value&) { return false; };
    case Type::kList:
    case Type::kTuple:
    case Type::kView:
      return [value, i = size_t{0}](Value& out) mutable {
        if (i >= value.items().size()) return false;
        out = value.items()[i++];
        return true;
      };
    case Type::kDict:
      return [value, i = size_t{0}](Value& out) mutable {
        if (i >= value.dict().size()) return false;
        out = value.dict().entries()[i++].first;
        return true;
      };
    case Type::kRange:
      return [value, i = int64_t{0}](Value& out) mutable {
        if (i >= value.range().length) return false;
        out = Value(value.range().at(i++));
        return true;
      };
    case Type::kString:
      return [this, value, at = size_t{0}](Value& out) mutable {
        const std::string_view view = value.view();
        if (at >= view.size()) return false;
        const auto n = static_cast<size_t>(decode_utf8(view, at).n_bytes);
        out = text(std::string(view.substr(at, n)));
        at += n;
        return true;
      };
    case Type::kIterator:
      return [value](Value& out) { return value.iterator().next(out); };
    default:
      raise("'{}' object is not iterable", type_name(value));
  }
}

std::string Runtime::to_repr(const Value& value) {
  ReprWriter writer(budget_);
  writer.write(value);
  return writer.take();
}

std::string Runtime::to_str(const Value& value) {
  if (value.is_string()) {
    budget_.step_bytes(value.view().size());
    return std::string(value.view());
  }
  if (value.is_undefined()) return {};
  return to_repr(value);
}

std::string_view Runtime::to_view(const Value& value, std::string& storage) {
  if (value.is_string()) return value.view();
  storage = to_str(value);
  return storage;
}

void append_repr(std::string& out, std::string_view text) {
  const bool has_single = text.find('\'') != std::string_view::npos;
  const bool has_double = text.find('"') != std::string_view::npos;
  const char quote = has_single && !has_double ? '"' : '\'';
  out.push_back(quote);
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = decode_utf8(text, at);
    const auto code = static_cast<uint32_t>(c.code_point);
    if (code == static_cast<uint32_t>(quote) || code == '\\') {
      out.push_back('\\');
      out.push_back(static_cast<char>(code));
    } else if (code == '\n') {
      out += "\\n";
    } else if (code == '\r') {
      out += "\\r";
    } else if (code == '\t') {
      out += "\\t";
    } else if (contains(kPrintable, c.code_point)) {
      out.append(text.substr(at, static_cast<size_t>(c.n_bytes)));
    } else if (code < 0x100) {
      out += fmt::format("\\x{:02x}", code);
    } else if (code < 0x10000) {
      out += fmt::format("\\u{:04x}", code);
    } else {
      out += fmt::format("\\U{:08x}", code);
    }
    at += static_cast<size_t>(c.n_bytes);
  }
  out.push_back(quote);
}

std::string float_repr(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  return format_double(value);
}

}  // namespace mobilellm::jinja
