// The tests behind `is`.
#include <cmath>

#include "base/utf8.h"
#include "chat/jinja/builtins.h"
#include "chat/jinja/runtime.h"
#include "chat/jinja/unicode.h"

namespace mobilellm::jinja {
namespace {

void take_nothing(Runtime& runtime, Args& args) { const Parameters none(runtime, "test", args, {}); }

// A test of the value alone.
template <auto predicate>
bool plain(Runtime& runtime, const Value& value, Args& args) {
  take_nothing(runtime, args);
  return predicate(value);
}

// A test that compares the value with one argument.
template <CompareOp op>
bool comparison(Runtime& runtime, const Value& value, Args& args) {
  const Parameters parameters(runtime, "test", args, {"other"}, 1);
  return runtime.compare(op, value, parameters[0]);
}

bool is_defined(const Value& value) { return !value.is_undefined(); }
bool is_undefined(const Value& value) { return value.is_undefined(); }
bool is_none(const Value& value) { return value.is_none(); }
bool is_boolean(const Value& value) { return value.is(Type::kBool); }
bool is_exactly_true(const Value& value) { return value.is(Type::kBool) && value.as_int() != 0; }
bool is_exactly_false(const Value& value) { return value.is(Type::kBool) && value.as_int() == 0; }
bool is_integer(const Value& value) { return value.is(Type::kInt); }
bool is_float(const Value& value) { return value.is(Type::kFloat); }
bool is_number(const Value& value) { return value.is_number(); }
bool is_string(const Value& value) { return value.is_string(); }
bool is_mapping(const Value& value) { return value.is(Type::kDict); }
bool is_escaped(const Value& value) { return value.is_string() && value.text().is_safe(); }
bool is_sequence(const Value& value) {
  return value.is_undefined() || value.is_string() || value.is_sequence() || value.is(Type::kDict) ||
         value.is(Type::kRange);
}
bool is_iterable(const Value& value) {
  return is_sequence(value) || value.is(Type::kView) || value.is(Type::kIterator) || value.is(Type::kLoop);
}
bool is_callable(const Value& value) {
  return value.is(Type::kCallable) || value.is(Type::kMacro) || value.is(Type::kLoop) || value.is_undefined();
}

bool has_remainder(Runtime& runtime, const Value& value, const Value& divisor, int64_t rest) {
  return runtime.equal(runtime.binary(ExprKind::kModulo, value, divisor), Value(rest));
}

bool test_odd(Runtime& runtime, const Value& value, Args& args) {
  take_nothing(runtime, args);
  return has_remainder(runtime, value, Value(2), 1);
}

bool test_even(Runtime& runtime, const Value& value, Args& args) {
  take_nothing(runtime, args);
  return has_remainder(runtime, value, Value(2), 0);
}

bool test_divisibleby(Runtime& runtime, const Value& value, Args& args) {
  const Parameters parameters(runtime, "divisibleby", args, {"num"}, 1);
  return has_remainder(runtime, value, parameters[0], 0);
}

bool test_lower(Runtime& runtime, const Value& value, Args& args) {
  take_nothing(runtime, args);
  const Value text = runtime.text(runtime.to_str(value));
  return is_true(find_text_method("islower")(runtime, text, args));
}

bool test_upper(Runtime& runtime, const Value& value, Args& args) {
  take_nothing(runtime, args);
  const Value text = runtime.text(runtime.to_str(value));
  return is_true(find_text_method("isupper")(runtime, text, args));
}

bool test_in(Runtime& runtime, const Value& value, Args& args) {
  const Parameters parameters(runtime, "in", args, {"seq"}, 1);
  return runtime.contains(parameters[0], value);
}

bool test_sameas(Runtime& runtime, const Value& value, Args& args) {
  const Parameters parameters(runtime, "sameas", args, {"other"}, 1);
  return is_same(value, parameters[0]);
}

bool test_filter(Runtime& runtime, const Value& value, Args& args) {
  take_nothing(runtime, args);
  if (!is_hashable(value)) runtime.raise("unhashable type: '{}'", type_name(value));
  return value.is_string() && find_filter(value.view()) != nullptr;
}

bool test_test(Runtime& runtime, const Value& value, Args& args) {
  take_nothing(runtime, args);
  if (!is_hashable(value)) runtime.raise("unhashable type: '{}'", type_name(value));
  return value.is_string() && find_test(value.view()) != nullptr;
}

constexpr NamedFunction<Test> kTests[] = {
    {"defined", plain<is_defined>},
    {"undefined", plain<is_undefined>},
    {"none", plain<is_none>},
    {"string", plain<is_string>},
    {"mapping", plain<is_mapping>},
    {"iterable", plain<is_iterable>},
    {"sequence", plain<is_sequence>},
    {"true", plain<is_exactly_true>},
    {"false", plain<is_exactly_false>},
    {"boolean", plain<is_boolean>},
    {"integer", plain<is_integer>},
    {"float", plain<is_float>},
    {"number", plain<is_number>},
    {"callable", plain<is_callable>},
    {"escaped", plain<is_escaped>},
    {"odd", test_odd},
    {"even", test_even},
    {"divisibleby", test_divisibleby},
    {"lower", test_lower},
    {"upper", test_upper},
    {"in", test_in},
    {"sameas", test_sameas},
    {"filter", test_filter},
    {"test", test_test},
    {"==", comparison<CompareOp::kEqual>},
    {"eq", comparison<CompareOp::kEqual>},
    {"equalto", comparison<CompareOp::kEqual>},
    {"!=", comparison<CompareOp::kNotEqual>},
    {"ne", comparison<CompareOp::kNotEqual>},
    {">", comparison<CompareOp::kGreater>},
    {"gt", comparison<CompareOp::kGreater>},
    {"greaterthan", comparison<CompareOp::kGreater>},
    {">=", comparison<CompareOp::kGreaterEqual>},
    {"ge", comparison<CompareOp::kGreaterEqual>},
    {"<", comparison<CompareOp::kLess>},
    {"lt", comparison<CompareOp::kLess>},
    {"lessthan", comparison<CompareOp::kLess>},
    {"<=", comparison<CompareOp::kLessEqual>},
    {"le", comparison<CompareOp::kLessEqual>},
};

}  // namespace

Test find_test(std::string_view name) { return find_in(kTests, name); }

bool Runtime::call_test(std::string_view name, const Value& value, Args& args) {
  const Test test = find_test(name);
  if (test == nullptr) raise("No test named '{}'.", name);
  return test(*this, value, args);
}

}  // namespace mobilellm::jinja
