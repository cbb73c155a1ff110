// Global functions: those of Jinja and the two that chat templates add.
#include "chat/jinja/builtins.h"
#include "chat/jinja/format.h"
#include "chat/jinja/runtime.h"

namespace mobilellm::jinja {
namespace {

constexpr int64_t kMaxRange = 100'000;

Value global_range(Runtime& runtime, const Value&, Args& args) {
  if (!args.named.empty()) runtime.raise("range() takes no keyword arguments");
  const Parameters parameters(runtime, "range", args, {"start", "stop", "step"}, 1);
  const bool has_stop = parameters.has(1);
  const int64_t start = has_stop ? parameters.integer(0, 0) : 0;
  const int64_t stop = has_stop ? parameters.integer(1, 0) : parameters.integer(0, 0);
  const int64_t step = parameters.integer(2, 1);
  if (step == 0) runtime.raise("range() arg 3 must not be zero");
  Value range = make<Range>(Type::kRange, &runtime.budget(), start, stop, step);
  if (range.range().length > kMaxRange) {
    runtime.raise("Range too big. The sandbox blocks ranges larger than MAX_RANGE ({}).", kMaxRange);
  }
  return range;
}

// The pairs that dict(...) and namespace(...) accept, in order.
std::vector<std::pair<Value, Value>> read_pairs(Runtime& runtime, Args& args) {
  std::vector<std::pair<Value, Value>> pairs;
  if (args.positional.size() > 1) runtime.raise("dict expected at most 1 argument, got {}", args.positional.size());
  if (!args.positional.empty()) {
    const Value& source = args.positional[0];
    if (source.is_undefined()) runtime.raise_undefined(source);
    if (source.is(Type::kDict)) {
      runtime.budget().check_items(source.dict().entries().size());
      pairs = source.dict().entries();
    } else {
      for (const Value& pair : runtime.elements(source)) {
        const std::vector<Value> parts = runtime.elements(pair);
        if (parts.size() != 2)
          runtime.raise("dictionary update sequence element has length {}; 2 is required", parts.size());
        if (!is_hashable(parts[0])) runtime.raise("unhashable type: '{}'", type_name(parts[0]));
        pairs.emplace_back(parts[0], parts[1]);
      }
    }
  }
  runtime.budget().check_items(args.named.size());
  for (const auto& [name, value] : args.named) pairs.emplace_back(runtime.text(name), value);
  return pairs;
}

Value make_dict(Runtime& runtime, Args& args) {
  Value result = make<Dict>(Type::kDict, &runtime.budget());
  for (auto& [key, value] : read_pairs(runtime, args)) const_cast<Dict&>(result.dict()).set(key, value);
  return result;
}

Value unused_function(Runtime&, const Value&, Args&) { return {}; }

// The global `dict`: callable, with fromkeys as its only attribute.
class DictFunction : public Callable {
 public:
  explicit DictFunction(Budget* budget) : Callable(budget, "dict", unused_function) {}
  Value call(Runtime& runtime, Args& args) override { return make_dict(runtime, args); }
  Value attribute(Runtime& runtime, std::string_view name) override {
    if (name != "fromkeys") return {};
    const Value empty = make<Dict>(Type::kDict, &runtime.budget());
    return make<Callable>(Type::kCallable, &runtime.budget(), "fromkeys", find_method(empty, "fromkeys"));
  }
};

Value global_namespace(Runtime& runtime, const Value&, Args& args) {
  const Value attributes = make_dict(runtime, args);
  Value result = runtime.new_namespace();
  for (const auto& [key, value] : attributes.dict().entries()) {
    if (!key.is_string()) runtime.raise("namespace: attribute names must be str, not {}", type_name(key));
    if (key.view().starts_with('_')) {
      runtime.raise(
          "Chat templates cannot store underscore-prefixed attributes on a namespace, but got '{}'. Please rename the "
          "attribute.",
          key.view());
    }
    result.name_space().set(key.view(), value);
  }
  return result;
}

// cycler(a, b, ...): next(), reset(), current.
class Cycler : public Callable {
 public:
  Cycler(Budget* budget, Value items) : Callable(budget, "cycler", unused_function, std::move(items)) {}
  Value call(Runtime& runtime, Args&) override { runtime.raise("'Cycler' object is not callable"); }
  Value attribute(Runtime& runtime, std::string_view name) override;
  Value next() {
    Value value = current();
    at_ = (at_ + 1) % self().items().size();
    return value;
  }
  void reset() { at_ = 0; }
  Value current() const { return self().items()[at_]; }

 private:
  size_t at_ = 0;
};

Value cycler_next(Runtime& runtime, const Value& self, Args& args) {
  const Parameters none(runtime, "next", args, {});
  return static_cast<Cycler&>(self.callable()).next();
}

Value cycler_reset(Runtime& runtime, const Value& self, Args& args) {
  const Parameters none(runtime, "reset", args, {});
  static_cast<Cycler&>(self.callable()).reset();
  return Value::none();
}

Value Cycler::attribute(Runtime& runtime, std::string_view name) {
  if (name == "current") return current();
  if (name == "items") return self();
  if (name == "pos") return Value(static_cast<int64_t>(at_));
  const Value object(Type::kCallable, this);
  if (name == "next") return make<Callable>(Type::kCallable, &runtime.budget(), "next", cycler_next, object);
  if (name == "reset") return make<Callable>(Type::kCallable, &runtime.budget(), "reset", cycler_reset, object);
  return {};
}

Value global_cycler(Runtime& runtime, const Value&, Args& args) {
  if (!args.named.empty()) runtime.raise("cycler() takes no keyword arguments");
  if (args.positional.empty()) runtime.raise("at least one item has to be provided");
  return make<Cycler>(Type::kCallable, &runtime.budget(), runtime.tuple(args.positional));
}

// joiner(sep): nothing the first time it is called, then the separator.
class Joiner : public Callable {
 public:
  Joiner(Budget* budget, Value separator) : Callable(budget, "joiner", unused_function, std::move(separator)) {}
  Value call(Runtime& runtime, Args& args) override {
    const Parameters none(runtime, "joiner", args, {});
    if (std::exchange(is_used_, true)) return self();
    return runtime.text("");
  }

 private:
  bool is_used_ = false;
};

Value global_joiner(Runtime& runtime, const Value&, Args& args) {
  const Parameters parameters(runtime, "joiner", args, {"sep"});
  return make<Joiner>(Type::kCallable, &runtime.budget(), parameters.has(0) ? parameters[0] : runtime.text(", "));
}

Value global_lipsum(Runtime& runtime, const Value&, Args&) { runtime.raise("lipsum() is not supported: it is random"); }

Value global_raise_exception(Runtime& runtime, const Value&, Args& args) {
  const Parameters parameters(runtime, "raise_exception", args, {"message"}, 1);
  runtime.refuse(runtime.to_str(parameters[0]));
}

Value global_strftime_now(Runtime& runtime, const Value&, Args& args) {
  const Parameters parameters(runtime, "strftime_now", args, {"format"}, 1);
  if (!parameters[0].is_string()) runtime.raise("strftime() argument 1 must be str, not {}", type_name(parameters[0]));
  return runtime.text(format_time(parameters[0].view(), runtime.now()));
}

constexpr NamedFunction<Callable::Function> kGlobals[] = {
    {"namespace", global_namespace},
    {"raise_exception", global_raise_exception},
    {"strftime_now", global_strftime_now},
    {"range", global_range},
    {"cycler", global_cycler},
    {"joiner", global_joiner},
    {"lipsum", global_lipsum},
};

}  // namespace

Value find_global(Runtime& runtime, std::string_view name) {
  if (name == "dict") return make<DictFunction>(Type::kCallable, &runtime.budget());
  const Callable::Function function = find_in(kGlobals, name);
  if (function == nullptr) return {};
  return make<Callable>(Type::kCallable, &runtime.budget(), name, function);
}

}  // namespace mobilellm::jinja
