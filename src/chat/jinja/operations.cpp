// Operators, attribute and item access, order and membership, as Python defines them.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/utf8.h"
#include "chat/jinja/builtins.h"
#include "chat/jinja/format.h"
#include "chat/jinja/loop.h"
#include "chat/jinja/runtime.h"
#include "chat/jinja/text_search.h"

namespace mobilellm::jinja {
namespace {

const char* symbol(ExprKind kind) {
  switch (kind) {
    case ExprKind::kAdd:
      return "+";
    case ExprKind::kSubtract:
      return "-";
    case ExprKind::kMultiply:
      return "*";
    case ExprKind::kDivide:
      return "/";
    case ExprKind::kFloorDivide:
      return "//";
    case ExprKind::kModulo:
      return "%";
    default:
      return "**";
  }
}

double float_modulo(double a, double b) {
  double result = std::fmod(a, b);
  if (result != 0.0) {
    if ((b < 0) != (result < 0)) result += b;
  } else {
    result = std::copysign(0.0, b);
  }
  return result;
}

// Python's float floor division.
double float_floor_divide(double a, double b) {
  const double mod = std::fmod(a, b);
  double quotient = (a - mod) / b;
  if (mod != 0.0 && (b < 0) != (mod < 0)) quotient -= 1.0;
  if (quotient == 0.0) return std::copysign(0.0, a / b);
  double floored = std::floor(quotient);
  if (quotient - floored > 0.5) floored += 1.0;
  return floored;
}

Value integer_power(const Runtime& runtime, int64_t base, int64_t exponent) {
  if (exponent < 0) {
    if (base == 0) runtime.raise("0.0 cannot be raised to a negative power");
    return Value(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
  }
  int64_t result = 1;
  int64_t factor = base;
  while (exponent > 0) {
    if ((exponent & 1) != 0 && __builtin_mul_overflow(result, factor, &result)) runtime.raise("integer overflow");
    exponent >>= 1;
    if (exponent > 0 && __builtin_mul_overflow(factor, factor, &factor)) runtime.raise("integer overflow");
  }
  return Value(result);
}

Value integer_arithmetic(const Runtime& runtime, ExprKind kind, int64_t a, int64_t b) {
  int64_t result = 0;
  bool is_overflow = false;
  switch (kind) {
    case ExprKind::kAdd:
      is_overflow = __builtin_add_overflow(a, b, &result);
      break;
    case ExprKind::kSubtract:
      is_overflow = __builtin_sub_overflow(a, b, &result);
      break;
    case ExprKind::kMultiply:
      is_overflow = __builtin_mul_overflow(a, b, &result);
      break;
    case ExprKind::kDivide:
      if (b == 0) runtime.raise("division by zero");
      return Value(static_cast<double>(a) / static_cast<double>(b));
    case ExprKind::kFloorDivide:
    case ExprKind::kModulo:
      if (b == 0) runtime.raise("integer division or modulo by zero");
      if (b == -1) {
        if (kind == ExprKind::kModulo) return Value(int64_t{0});
        is_overflow = __builtin_sub_overflow(int64_t{0}, a, &result);
        break;
      }
      if (kind == ExprKind::kFloorDivide) {
        result = a / b - static_cast<int64_t>(a % b != 0 && (a % b < 0) != (b < 0));
      } else {
        result = a % b;
        if (result != 0 && (result < 0) != (b < 0)) result += b;
      }
      break;
    default:
      return integer_power(runtime, a, b);
  }
  if (is_overflow) runtime.raise("integer overflow");
  return Value(result);
}

Value float_arithmetic(const Runtime& runtime, ExprKind kind, double a, double b) {
  switch (kind) {
    case ExprKind::kAdd:
      return Value(a + b);
    case ExprKind::kSubtract:
      return Value(a - b);
    case ExprKind::kMultiply:
      return Value(a * b);
    case ExprKind::kDivide:
      if (b == 0.0) runtime.raise("float division by zero");
      return Value(a / b);
    case ExprKind::kFloorDivide:
      if (b == 0.0) runtime.raise("float floor division by zero");
      return Value(float_floor_divide(a, b));
    case ExprKind::kModulo:
      if (b == 0.0) runtime.raise("float modulo");
      return Value(float_modulo(a, b));
    default: {
      if (a == 0.0 && b < 0.0) runtime.raise("0.0 cannot be raised to a negative power");
      const double result = std::pow(a, b);
      if (std::isinf(result) && std::isfinite(a) && std::isfinite(b)) runtime.raise("Numerical result out of range");
      if (std::isnan(result) && !std::isnan(a) && !std::isnan(b)) runtime.raise("complex numbers are not supported");
      return Value(result);
    }
  }
}

Value repeat(Runtime& runtime, const Value& value, int64_t count) {
  const auto n = static_cast<size_t>(std::max<int64_t>(count, 0));
  if (value.is_string()) {
    const std::string_view part = value.view();
    if (!part.empty() && n > kMaxOutputBytes / part.size()) Budget::fail_limit("text too long");
    std::string result;
    result.reserve(part.size() * n);
    for (size_t i = 0; i < n && !part.empty(); ++i) result += part;
    return runtime.text(std::move(result), value.text().is_safe());
  }
  const std::vector<Value>& items = value.items();
  if (!items.empty() && n > kMaxSteps / items.size()) Budget::fail_limit("list too long");
  runtime.budget().check_items(items.size() * n);
  std::vector<Value> result;
  result.reserve(items.size() * n);
  for (size_t i = 0; i < n && !items.empty(); ++i) result.insert(result.end(), items.begin(), items.end());
  return value.is(Type::kList) ? runtime.list(std::move(result)) : runtime.tuple(std::move(result));
}

Value concatenate(Runtime& runtime, const Value& a, const Value& b) {
  if (a.is_string()) {
    // Joining marked text with plain text escapes the plain part.
    const bool is_safe = a.text().is_safe() || b.text().is_safe();
    runtime.budget().check_text(a.view().size() + b.view().size());
    std::string result;
    result.reserve(a.view().size() + b.view().size());
    for (const Value* part : {&a, &b}) {
      if (is_safe && !part->text().is_safe()) {
        append_escaped(result, part->view());
      } else {
        result += part->view();
      }
    }
    return runtime.text(std::move(result), is_safe);
  }
  runtime.budget().check_items(a.items().size() + b.items().size());
  std::vector<Value> result = a.items();
  result.insert(result.end(), b.items().begin(), b.items().end());
  return a.is(Type::kList) ? runtime.list(std::move(result)) : runtime.tuple(std::move(result));
}

bool is_dunder(std::string_view name) { return name.size() > 4 && name.starts_with("__") && name.ends_with("__"); }

// Attributes that every Python object has.
bool is_object_attribute(std::string_view name) {
  static constexpr std::string_view kNames[] = {
      "__class__",   "__doc__",     "__init__",      "__dir__",          "__eq__",           "__ne__",
      "__lt__",      "__le__",      "__gt__",        "__ge__",           "__hash__",         "__str__",
      "__repr__",    "__format__",  "__new__",       "__reduce__",       "__sizeof__",       "__getattribute__",
      "__setattr__", "__delattr__", "__reduce_ex__", "__subclasshook__", "__init_subclass__"};
  return std::find(std::begin(kNames), std::end(kNames), name) != std::end(kNames);
}

int64_t clamp_index(int64_t index, int64_t length, int64_t lower, int64_t upper) {
  if (index < 0) index = index < -length ? lower : index + length;
  return std::clamp(index, lower, upper);
}

}  // namespace

Value Runtime::negative(const Value& value) {
  if (value.is(Type::kFloat)) return Value(-value.as_double());
  if (value.is_undefined()) raise_undefined(value);
  if (!value.is_integral()) raise("bad operand type for unary -: '{}'", type_name(value));
  if (value.as_int() == INT64_MIN) raise("integer overflow");
  return Value(-value.as_int());
}

Value Runtime::binary(ExprKind kind, const Value& a, const Value& b) {
  if (a.is_integral() && b.is_integral()) return integer_arithmetic(*this, kind, a.as_int(), b.as_int());
  if (a.is_number() && b.is_number()) return float_arithmetic(*this, kind, a.as_double(), b.as_double());
  if (kind == ExprKind::kModulo && a.is_string()) return text(format_percent(*this, a, b), a.text().is_safe());
  if (a.is_undefined()) raise_undefined(a);
  if (b.is_undefined()) raise_undefined(b);
  if (kind == ExprKind::kAdd) {
    if (a.type() == b.type() && (a.is_string() || a.is_sequence())) return concatenate(*this, a, b);
    if (a.is_string()) raise("can only concatenate str (not \"{}\") to str", type_name(b));
    if (a.is_sequence()) raise("can only concatenate {0} (not \"{1}\") to {0}", type_name(a), type_name(b));
  }
  if (kind == ExprKind::kMultiply) {
    if ((a.is_string() || a.is_sequence()) && b.is_integral()) return repeat(*this, a, b.as_int());
    if ((b.is_string() || b.is_sequence()) && a.is_integral()) return repeat(*this, b, a.as_int());
  }
  raise("unsupported operand type(s) for {}: '{}' and '{}'", symbol(kind), type_name(a), type_name(b));
}

bool Runtime::is_less(const Value& a, const Value& b, const char* op) {
  if (a.is_undefined()) raise_undefined(a);
  if (b.is_undefined()) raise_undefined(b);
  const std::optional<bool> result = less(budget_, a, b);
  if (!result) raise("'{}' not supported between instances of '{}' and '{}'", op, type_name(a), type_name(b));
  return *result;
}

bool Runtime::compare(CompareOp op, const Value& a, const Value& b) {
  const auto has_nan = [&] {
    return a.is_number() && b.is_number() && (std::isnan(a.as_double()) || std::isnan(b.as_double()));
  };
  switch (op) {
    case CompareOp::kEqual:
      return equal(a, b);
    case CompareOp::kNotEqual:
      return !equal(a, b);
    case CompareOp::kLess:
      return is_less(a, b);
    case CompareOp::kLessEqual:
      return !is_less(b, a, "<=") && !has_nan();
    case CompareOp::kGreater:
      return is_less(b, a, ">");
    case CompareOp::kGreaterEqual:
      return !is_less(a, b, ">=") && !has_nan();
    case CompareOp::kIn:
      return contains(b, a);
    case CompareOp::kNotIn:
      return !contains(b, a);
  }
  return false;
}

bool Runtime::contains(const Value& container, const Value& element) {
  switch (container.type()) {
    case Type::kString:
      if (!element.is_string()) raise("'in <string>' requires string as left operand, not {}", type_name(element));
      return TextSearch(budget_, container.view(), element.view()).find(0, container.view().size()) !=
             std::string_view::npos;
    case Type::kDict:
      if (!is_hashable(element)) raise("unhashable type: '{}'", type_name(element));
      return container.dict().find(element) != nullptr;
    case Type::kRange: {
      const Range& range = container.range();
      if (!element.is_number() || element.as_double() != std::floor(element.as_double())) return false;
      if (range.length == 0) return false;
      const int64_t value = element.is_integral() ? element.as_int() : static_cast<int64_t>(element.as_double());
      const int64_t low = std::min(range.start, range.at(range.length - 1));
      const int64_t high = std::max(range.start, range.at(range.length - 1));
      return value >= low && value <= high && (value - range.start) % range.step == 0;
    }
    case Type::kList:
    case Type::kTuple:
    case Type::kView:
      for (const Value& item : container.items()) {
        if (is_same(item, element) || equal(item, element)) return true;
      }
      return false;
    case Type::kUndefined:
    case Type::kIterator: {
      const Iterator::Next next = iterate(container);
      Value item;
      while (next(item)) {
        if (equal(item, element)) return true;
      }
      return false;
    }
    default:
      raise("argument of type '{}' is not iterable", type_name(container));
  }
}

Value Runtime::attribute(const Value& object, std::string_view name) {
  if (object.is_undefined() && !is_object_attribute(name)) raise_undefined(object);
  const auto unsafe = [&] {
    return undefined(fmt::format("access to attribute '{}' of '{}' object is unsafe.", name, type_name(object)));
  };
  if (const Callable::Function method = find_method(object, name)) {
    return make<Callable>(Type::kCallable, &budget_, name, method, object);
  }
  if (is_mutating_method(object, name) || is_object_attribute(name)) return unsafe();
  switch (object.type()) {
    case Type::kDict:
      if (const Value* value = object.dict().find(name)) return *value;
      break;
    case Type::kNamespace:
      if (const Value* value = object.name_space().find(name)) return *value;
      break;
    case Type::kTuple:
      if (object.sequence().is_group && name == "grouper") return object.items()[0];
      if (object.sequence().is_group && name == "list") return object.items()[1];
      break;
    case Type::kRange:
      if (name == "start") return Value(object.range().start);
      if (name == "stop") return Value(object.range().stop);
      if (name == "step") return Value(object.range().step);
      break;
    case Type::kInt:
    case Type::kBool:
      if (name == "real" || name == "numerator") return Value(object.as_int());
      if (name == "imag") return Value(0);
      if (name == "denominator") return Value(1);
      break;
    case Type::kFloat:
      if (name == "real") return object;
      if (name == "imag") return Value(0.0);
      break;
    case Type::kLoop:
    case Type::kMacro: {
      Value value = object_attribute(*this, object, name);
      if (!value.is_missing()) return value;
      break;
    }
    case Type::kCallable: {
      Value value = object.callable().attribute(*this, name);
      if (!value.is_missing()) return value;
      break;
    }
    default:
      break;
  }
  if (is_dunder(name) && (object.is_string() || object.is_sequence()) && name != "__html__") {
    // Most of these exist on Python's own types and are refused; the others do not exist: both print nothing.
    return unsafe();
  }
  if (object.is_none()) return undefined(fmt::format("'None' has no attribute '{}'", name));
  return undefined(fmt::format("'{} object' has no attribute '{}'", type_name(object), name));
}

Value Runtime::item(const Value& object, const Value& key) {
  if (object.is_undefined()) raise_undefined(object);
  switch (object.type()) {
    case Type::kDict:
      if (const Value* value = object.dict().find(key)) return *value;
      break;
    case Type::kList:
    case Type::kTuple:
      if (key.is_integral()) {
        const auto length = static_cast<int64_t>(object.items().size());
        const int64_t index = key.as_int() < 0 ? key.as_int() + length : key.as_int();
        if (index >= 0 && index < length) return object.items()[static_cast<size_t>(index)];
      }
      break;
    case Type::kRange:
      if (key.is_integral()) {
        const int64_t length = object.range().length;
        const int64_t index = key.as_int() < 0 ? key.as_int() + length : key.as_int();
        if (index >= 0 && index < length) return Value(object.range().at(index));
      }
      break;
    case Type::kString:
      if (key.is_integral()) {
        const auto length = static_cast<int64_t>(object.text().length());
        const int64_t index = key.as_int() < 0 ? key.as_int() + length : key.as_int();
        if (index < 0 || index >= length) break;
        const std::string_view view = object.view();
        if (!object.text().is_ascii()) budget_.step_bytes(view.size());
        const size_t at = object.text().byte_offset(static_cast<size_t>(index));
        return text(std::string(view.substr(at, static_cast<size_t>(decode_utf8(view, at).n_bytes))),
                    object.text().is_safe());
      }
      break;
    default:
      break;
  }
  if (key.is_string() && !object.is(Type::kDict)) return attribute(object, key.view());
  if (key.is_string() && (find_method(object, key.view()) != nullptr || is_mutating_method(object, key.view()) ||
                          is_object_attribute(key.view()))) {
    return attribute(object, key.view());
  }
  if (key.is_string())
    return undefined(fmt::format("'{} object' has no attribute '{}'", type_name(object), key.view()));
  return undefined(fmt::format("{} object has no element {}", type_name(object), to_repr(key)));
}

Value Runtime::slice(const Value& object, const Value& start, const Value& stop, const Value& step) {
  if (object.is_undefined()) raise_undefined(object);
  const bool is_range = object.is(Type::kRange);
  if (object.is(Type::kDict)) raise("unhashable type: 'slice'");
  if (!object.is_string() && !object.is_sequence() && !is_range) {
    raise("'{}' object is not subscriptable", type_name(object));
  }
  for (const Value* part : {&start, &stop, &step}) {
    if (!part->is_none() && !part->is_integral()) raise("slice indices must be integers or None");
  }
  const int64_t length = *length_of(object);
  const int64_t stride = step.is_none() ? 1 : step.as_int();
  if (stride == 0) raise("slice step cannot be zero");
  const bool is_backward = stride < 0;
  const int64_t lower = is_backward ? -1 : 0;
  const int64_t upper = is_backward ? length - 1 : length;
  const int64_t first =
      start.is_none() ? (is_backward ? upper : lower) : clamp_index(start.as_int(), length, lower, upper);
  const int64_t last =
      stop.is_none() ? (is_backward ? lower : upper) : clamp_index(stop.as_int(), length, lower, upper);
  if (is_range) {
    const Range& range = object.range();
    return make<Range>(Type::kRange, &budget_, range.start + first * range.step, range.start + last * range.step,
                       static_cast<int64_t>(static_cast<uint64_t>(range.step) * static_cast<uint64_t>(stride)));
  }
  const Range picked(nullptr, first, last, stride);
  if (object.is_sequence()) {
    std::vector<Value> items;
    budget_.check_items(static_cast<size_t>(picked.length));
    items.reserve(static_cast<size_t>(picked.length));
    for (int64_t i = 0; i < picked.length; ++i) items.push_back(object.items()[static_cast<size_t>(picked.at(i))]);
    return object.is(Type::kList) ? list(std::move(items)) : tuple(std::move(items));
  }
  const Text& source = object.text();
  const std::string& bytes = source.str();
  budget_.step_bytes(bytes.size());
  std::string result;
  if (stride == 1) {
    if (first < last) {
      const size_t begin = source.byte_offset(static_cast<size_t>(first));
      result = bytes.substr(begin, source.byte_offset(static_cast<size_t>(last)) - begin);
    }
  } else {
    budget_.step(static_cast<uint64_t>(picked.length));
    std::vector<size_t> offsets;
    if (!source.is_ascii()) {
      budget_.check_items(bytes.size());
      offsets.reserve(source.length());
      for (size_t at = 0; at < bytes.size(); at += static_cast<size_t>(decode_utf8(bytes, at).n_bytes))
        offsets.push_back(at);
    }
    for (int64_t i = 0; i < picked.length; ++i) {
      const auto index = static_cast<size_t>(picked.at(i));
      const size_t at = offsets.empty() ? index : offsets[index];
      result.append(bytes, at, static_cast<size_t>(decode_utf8(bytes, at).n_bytes));
    }
  }
  return text(std::move(result), source.is_safe());
}

void Runtime::sort(std::vector<Value>& items, std::vector<Value>& keys, bool is_reverse) {
  std::vector<size_t> order(items.size());
  std::iota(order.begin(), order.end(), size_t{0});
  const auto goes_before = [&](size_t a, size_t b) {
    return is_reverse ? is_less(keys[b], keys[a]) : is_less(keys[a], keys[b]);
  };
  // Merge sort from the bottom up: stable, and safe for keys without a consistent order (NaN), unlike std::sort.
  std::vector<size_t> merged(order.size());
  for (size_t width = 1; width < order.size(); width *= 2) {
    for (size_t begin = 0; begin < order.size(); begin += 2 * width) {
      const size_t middle = std::min(begin + width, order.size());
      const size_t end = std::min(begin + 2 * width, order.size());
      size_t left = begin;
      size_t right = middle;
      for (size_t out = begin; out < end; ++out) {
        const bool takes_right = left == middle || (right < end && goes_before(order[right], order[left]));
        merged[out] = takes_right ? order[right++] : order[left++];
      }
    }
    order.swap(merged);
  }
  std::vector<Value> sorted_items;
  std::vector<Value> sorted_keys;
  for (const size_t index : order) {
    sorted_items.push_back(items[index]);
    sorted_keys.push_back(keys[index]);
  }
  items = std::move(sorted_items);
  keys = std::move(sorted_keys);
}

}  // namespace mobilellm::jinja
