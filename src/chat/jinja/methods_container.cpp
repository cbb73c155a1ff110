// Methods of list, tuple, dict, range and numbers, and attributes of loops and macros.
#include <algorithm>
#include <array>
#include <cmath>

#include "chat/jinja/builtins.h"
#include "chat/jinja/loop.h"
#include "chat/jinja/runtime.h"

namespace mobilellm::jinja {
namespace {

Value view(Runtime& runtime, std::vector<Value> items, Sequence::ViewKind kind) {
  runtime.budget().check_items(items.size());
  return make<Sequence>(Type::kView, &runtime.budget(), std::move(items), kind);
}

Value dict_keys(Runtime& runtime, const Value& self, Args& args) {
  const Parameters none(runtime, "keys", args, {});
  std::vector<Value> items;
  for (const auto& [key, value] : self.dict().entries()) items.push_back(key);
  return view(runtime, std::move(items), Sequence::ViewKind::kKeys);
}

Value dict_values(Runtime& runtime, const Value& self, Args& args) {
  const Parameters none(runtime, "values", args, {});
  std::vector<Value> items;
  for (const auto& [key, value] : self.dict().entries()) items.push_back(value);
  return view(runtime, std::move(items), Sequence::ViewKind::kValues);
}

Value dict_items(Runtime& runtime, const Value& self, Args& args) {
  const Parameters none(runtime, "items", args, {});
  std::vector<Value> items;
  for (const auto& [key, value] : self.dict().entries()) items.push_back(runtime.tuple({key, value}));
  return view(runtime, std::move(items), Sequence::ViewKind::kItems);
}

Value dict_get(Runtime& runtime, const Value& self, Args& args) {
  if (!args.named.empty()) runtime.raise("dict.get() takes no keyword arguments");
  const Parameters parameters(runtime, "get", args, {"key", "default"}, 1);
  if (!is_hashable(parameters[0])) runtime.raise("unhashable type: '{}'", type_name(parameters[0]));
  if (const Value* value = self.dict().find(parameters[0])) return *value;
  return parameters.has(1) ? parameters[1] : Value::none();
}

Value dict_copy(Runtime& runtime, const Value& self, Args& args) {
  const Parameters none(runtime, "copy", args, {});
  return self;  // Nothing can change it.
}

Value dict_fromkeys(Runtime& runtime, const Value&, Args& args) {
  const Parameters parameters(runtime, "fromkeys", args, {"iterable", "value"}, 1);
  Value result = make<Dict>(Type::kDict, &runtime.budget());
  for (const Value& key : runtime.elements(parameters[0])) {
    if (!is_hashable(key)) runtime.raise("unhashable type: '{}'", type_name(key));
    const_cast<Dict&>(result.dict()).set(key, parameters.has(1) ? parameters[1] : Value::none());
  }
  return result;
}

Value sequence_count(Runtime& runtime, const Value& self, Args& args) {
  const Parameters parameters(runtime, "count", args, {"value"}, 1);
  int64_t n = 0;
  for (const Value& item : runtime.elements(self)) n += runtime.equal(item, parameters[0]) ? 1 : 0;
  return Value(n);
}

Value sequence_index(Runtime& runtime, const Value& self, Args& args) {
  const Parameters parameters(runtime, "index", args, {"value", "start", "stop"}, 1);
  const std::vector<Value> items = runtime.elements(self);
  const auto length = static_cast<int64_t>(items.size());
  const auto clamp = [&](int64_t index) {
    return index < 0 ? std::max<int64_t>(index + length, 0) : std::min(index, length);
  };
  const int64_t stop = clamp(parameters.integer(2, length));
  for (int64_t i = clamp(parameters.integer(1, 0)); i < stop; ++i) {
    if (runtime.equal(items[static_cast<size_t>(i)], parameters[0])) return Value(i);
  }
  runtime.raise("{} is not in {}", runtime.to_repr(parameters[0]), type_name(self));
}

Value list_copy(Runtime& runtime, const Value& self, Args& args) {
  const Parameters none(runtime, "copy", args, {});
  return self;
}

Value float_is_integer(Runtime& runtime, const Value& self, Args& args) {
  const Parameters none(runtime, "is_integer", args, {});
  return Value(std::isfinite(self.as_double()) && self.as_double() == std::floor(self.as_double()));
}

Value int_bit_length(Runtime& runtime, const Value& self, Args& args) {
  const Parameters none(runtime, "bit_length", args, {});
  uint64_t magnitude =
      self.as_int() < 0 ? 0 - static_cast<uint64_t>(self.as_int()) : static_cast<uint64_t>(self.as_int());
  int64_t n = 0;
  for (; magnitude != 0; magnitude >>= 1) ++n;
  return Value(n);
}

Value number_conjugate(Runtime& runtime, const Value& self, Args& args) {
  const Parameters none(runtime, "conjugate", args, {});
  return self.is(Type::kBool) ? Value(self.as_int()) : self;
}

constexpr NamedFunction<Callable::Function> kDictMethods[] = {
    {"items", dict_items}, {"keys", dict_keys}, {"values", dict_values},
    {"get", dict_get},     {"copy", dict_copy}, {"fromkeys", dict_fromkeys},
};
constexpr NamedFunction<Callable::Function> kListMethods[] = {
    {"count", sequence_count},
    {"index", sequence_index},
    {"copy", list_copy},
};
constexpr NamedFunction<Callable::Function> kTupleMethods[] = {
    {"count", sequence_count},
    {"index", sequence_index},
};
constexpr NamedFunction<Callable::Function> kIntMethods[] = {
    {"bit_length", int_bit_length},
    {"conjugate", number_conjugate},
};
constexpr NamedFunction<Callable::Function> kFloatMethods[] = {
    {"is_integer", float_is_integer},
    {"conjugate", number_conjugate},
};

Value loop_cycle(Runtime& runtime, const Value& self, Args& args) {
  if (!args.named.empty()) runtime.raise("loop.cycle() takes no keyword arguments");
  if (args.positional.empty()) runtime.raise("no items for cycling given");
  return args.positional[static_cast<size_t>(self.loop().index0) % args.positional.size()];
}

Value loop_changed(Runtime& runtime, const Value& self, Args& args) {
  if (!args.named.empty()) runtime.raise("loop.changed() takes no keyword arguments");
  Value now = runtime.tuple(args.positional);
  Loop& loop = self.loop();
  if (!loop.last_changed.is_missing() && runtime.equal(loop.last_changed, now)) return Value(false);
  if (loop.statement != nullptr || !loop.items.empty()) loop.last_changed = std::move(now);
  return Value(true);
}

Value loop_attribute(Runtime& runtime, const Value& object, std::string_view name) {
  const Loop& loop = object.loop();
  const auto item_at = [&](int64_t index) {
    return index >= 0 && index < static_cast<int64_t>(loop.items.size()) ? loop.items[static_cast<size_t>(index)]
                                                                         : Value();
  };
  if (name == "index") return Value(loop.index0 + 1);
  if (name == "index0") return Value(loop.index0);
  if (name == "first") return Value(loop.index0 == 0);
  if (name == "last") return Value(loop.index0 + 1 == loop.n_items);
  if (name == "length") return Value(loop.n_items);
  if (name == "revindex") return Value(loop.n_items - loop.index0);
  if (name == "revindex0") return Value(loop.n_items - loop.index0 - 1);
  if (name == "depth") return Value(loop.depth0 + 1);
  if (name == "depth0") return Value(loop.depth0);
  if (name == "previtem") {
    Value item = item_at(loop.index0 - 1);
    return item.is_missing() ? runtime.undefined("there is no previous item") : item;
  }
  if (name == "nextitem") {
    Value item = item_at(loop.index0 + 1);
    return item.is_missing() ? runtime.undefined("there is no next item") : item;
  }
  if (name == "cycle") return make<Callable>(Type::kCallable, &runtime.budget(), "cycle", loop_cycle, object);
  if (name == "changed") return make<Callable>(Type::kCallable, &runtime.budget(), "changed", loop_changed, object);
  return {};
}

Value macro_attribute(Runtime& runtime, const Value& object, std::string_view name) {
  const Signature& signature = object.macro().signature();
  if (name == "name") return signature.name == "caller" ? Value::none() : runtime.text(signature.name);
  if (name == "arguments") {
    std::vector<Value> names;
    for (const std::string& parameter : signature.parameters) names.push_back(runtime.text(parameter));
    return runtime.tuple(std::move(names));
  }
  if (name == "catch_kwargs") return Value(signature.uses_kwargs);
  if (name == "catch_varargs") return Value(signature.uses_varargs);
  if (name == "caller") return Value(signature.uses_caller);
  return {};
}

}  // namespace

Callable::Function find_method(const Value& value, std::string_view name) {
  switch (value.type()) {
    case Type::kString:
      return find_text_method(name);
    case Type::kDict:
      return find_in(kDictMethods, name);
    case Type::kList:
      return find_in(kListMethods, name);
    case Type::kTuple:
    case Type::kRange:
      return find_in(kTupleMethods, name);
    case Type::kInt:
    case Type::kBool:
      return find_in(kIntMethods, name);
    case Type::kFloat:
      return find_in(kFloatMethods, name);
    default:
      return nullptr;
  }
}

bool is_mutating_method(const Value& value, std::string_view name) {
  static constexpr std::array<std::string_view, 8> kOfList = {"append", "clear", "pop",    "reverse",
                                                              "insert", "sort",  "extend", "remove"};
  static constexpr std::array<std::string_view, 5> kOfDict = {"clear", "pop", "popitem", "setdefault", "update"};
  if (value.is(Type::kList)) return std::find(kOfList.begin(), kOfList.end(), name) != kOfList.end();
  if (value.is(Type::kDict)) return std::find(kOfDict.begin(), kOfDict.end(), name) != kOfDict.end();
  return false;
}

Value object_attribute(Runtime& runtime, const Value& object, std::string_view name) {
  return object.is(Type::kLoop) ? loop_attribute(runtime, object, name) : macro_attribute(runtime, object, name);
}

}  // namespace mobilellm::jinja
