// Filters on lists, dicts and iterators.
#include <algorithm>
#include <memory>

#include "base/utf8.h"
#include "chat/jinja/builtins.h"
#include "chat/jinja/format.h"
#include "chat/jinja/loop.h"
#include "chat/jinja/runtime.h"
#include "chat/jinja/unicode.h"

namespace mobilellm::jinja {
namespace {

// Path of an attribute argument: "a.0.b" or an integer.
class AttributePath {
 public:
  AttributePath(Runtime& runtime, const Value& attribute) {
    if (attribute.is_missing() || attribute.is_none()) return;
    if (!attribute.is_string()) {
      parts_.push_back(attribute);
      return;
    }
    add(runtime, attribute.view());
  }
  AttributePath(Runtime& runtime, std::string_view path) { add(runtime, path); }

  Value get(Runtime& runtime, Value item, const Value& default_value = {}) const {
    for (const Value& part : parts_) {
      item = runtime.item(item, part);
      if (item.is_undefined() && !default_value.is_missing() && !default_value.is_none()) item = default_value;
    }
    return item;
  }

 private:
  void add(Runtime& runtime, std::string_view path) {
    while (true) {
      const size_t dot = std::min(path.find('.'), path.size());
      const std::string_view part = path.substr(0, dot);
      const bool is_index =
          !part.empty() && part.size() < 18 && part.find_first_not_of("0123456789") == std::string_view::npos;
      if (is_index) {
        int64_t index = 0;
        for (const char c : part) index = index * 10 + (c - '0');
        parts_.emplace_back(index);
      } else {
        parts_.push_back(runtime.text(std::string(part)));
      }
      if (dot == path.size()) return;
      path = path.substr(dot + 1);
    }
  }
  std::vector<Value> parts_;
};

Value ignore_case(Runtime& runtime, const Value& value, bool is_case_sensitive) {
  return value.is_string() && !is_case_sensitive ? runtime.text(to_lower(value.view())) : value;
}

// A generator that works when it is read. `depth` is that of the deepest value it keeps.
Value lazy(Runtime& runtime, uint32_t depth, Iterator::Next next) {
  return make<Iterator>(Type::kIterator, &runtime.budget(), "generator", depth, std::move(next));
}

// A generator over values that are already there.
Value generator(Runtime& runtime, std::vector<Value> items, const char* name = "generator") {
  const Value holder = runtime.list(std::move(items));
  return runtime.iterator(name, holder, runtime.iterate(holder));
}

Value filter_length(Runtime& runtime, const Value& value, Args& args) {
  const Parameters none(runtime, "length", args, {});
  const std::optional<int64_t> length = length_of(value);
  if (!length) runtime.raise("object of type '{}' has no len()", type_name(value));
  return Value(*length);
}

Value filter_list(Runtime& runtime, const Value& value, Args& args) {
  const Parameters none(runtime, "list", args, {});
  return runtime.list(runtime.elements(value));
}

Value filter_first(Runtime& runtime, const Value& value, Args& args) {
  const Parameters none(runtime, "first", args, {});
  Value first;
  if (runtime.iterate(value)(first)) return first;
  return runtime.undefined("No first item, sequence was empty.");
}

Value filter_last(Runtime& runtime, const Value& value, Args& args) {
  const Parameters none(runtime, "last", args, {});
  if (value.is(Type::kIterator)) runtime.raise("'{}' object is not reversible", type_name(value));
  if (value.is_string() && !value.view().empty()) return runtime.item(value, Value(-1));
  const std::vector<Value> items = runtime.elements(value);
  return items.empty() ? runtime.undefined("No last item, sequence was empty.") : items.back();
}

Value filter_random(Runtime& runtime, const Value& value, Args& args) {
  const Parameters none(runtime, "random", args, {});
  // A prompt must not depend on chance: always the first.
  const std::vector<Value> items = runtime.elements(value);
  return items.empty() ? runtime.undefined("No random item, sequence was empty.") : items.front();
}

Value filter_default(Runtime& runtime, const Value& value, Args& args) {
  const Parameters parameters(runtime, "default", args, {"default_value", "boolean"});
  if (value.is_undefined() || (parameters.boolean(1, false) && !is_true(value))) {
    return parameters.has(0) ? parameters[0] : runtime.text("");
  }
  return value;
}

Value filter_join(Runtime& runtime, const Value& value, Args& args) {
  const Parameters parameters(runtime, "join", args, {"d", "attribute"});
  std::string separator = parameters.has(0) ? runtime.to_str(parameters[0]) : "";
  const AttributePath path(runtime, parameters[1]);
  const Iterator::Next next = runtime.iterate(value);
  std::string out;
  std::string storage;
  Value item;
  bool is_first = true;
  while (next(item)) {
    runtime.budget().step(2);
    const Value element = path.get(runtime, item);
    const std::string_view text = runtime.to_view(element, storage);
    runtime.budget().check_text(out.size() + separator.size() + text.size());
    runtime.budget().step_bytes(separator.size() + text.size());
    if (!is_first) out += separator;
    is_first = false;
    out += text;
  }
  return runtime.text(std::move(out));
}

Value filter_items(Runtime& runtime, const Value& value, Args& args) {
  const Parameters none(runtime, "items", args, {});
  return lazy(runtime, value.depth(), [&runtime, value, at = size_t{0}](Value& out) mutable {
    if (value.is_undefined()) return false;
    if (!value.is(Type::kDict)) runtime.raise("Can only get item pairs from a mapping.");
    if (at >= value.dict().size()) return false;
    runtime.budget().step(4);
    const auto& [key, item] = value.dict().entries()[at++];
    out = runtime.tuple({key, item});
    return true;
  });
}

Value filter_dictsort(Runtime& runtime, const Value& value, Args& args) {
  const Parameters parameters(runtime, "dictsort", args, {"case_sensitive", "by", "reverse"});
  const bool is_case_sensitive = parameters.boolean(0, false);
  const std::string_view by = parameters.string(1, "key");
  if (by != "key" && by != "value") runtime.raise("You can only sort by either \"key\" or \"value\"");
  if (value.is_undefined()) runtime.raise_undefined(value);
  if (!value.is(Type::kDict)) runtime.raise("'{}' object has no attribute 'items'", type_name(value));
  std::vector<Value> items;
  std::vector<Value> keys;
  for (const auto& [key, item] : value.dict().entries()) {
    items.push_back(runtime.tuple({key, item}));
    keys.push_back(ignore_case(runtime, by == "key" ? key : item, is_case_sensitive));
  }
  runtime.sort(items, keys, parameters.boolean(2, false));
  return runtime.list(std::move(items));
}

Value filter_sort(Runtime& runtime, const Value& value, Args& args) {
  const Parameters parameters(runtime, "sort", args, {"reverse", "case_sensitive", "attribute"});
  const bool is_case_sensitive = parameters.boolean(1, false);
  std::vector<AttributePath> paths;
  if (parameters.has(2) && parameters[2].is_string()) {
    std::string_view names = parameters[2].view();
    while (true) {
      const size_t comma = std::min(names.find(','), names.size());
      paths.emplace_back(runtime, names.substr(0, comma));
      if (comma == names.size()) break;
      names = names.substr(comma + 1);
    }
  } else {
    paths.emplace_back(runtime, parameters[2]);
  }
  std::vector<Value> items = runtime.elements(value);
  std::vector<Value> keys;
  for (const Value& item : items) {
    std::vector<Value> parts;
    for (const AttributePath& path : paths)
      parts.push_back(ignore_case(runtime, path.get(runtime, item), is_case_sensitive));
    keys.push_back(runtime.list(std::move(parts)));  // As a list even when alone: equal undefined keys compare.
  }
  runtime.sort(items, keys, parameters.boolean(0, false));
  return runtime.list(std::move(items));
}

Value filter_unique(Runtime& runtime, const Value& value, Args& args) {
  const Parameters parameters(runtime, "unique", args, {"case_sensitive", "attribute"});
  const AttributePath path(runtime, parameters[1]);
  const Value seen = make<Dict>(Type::kDict, &runtime.budget());
  std::vector<Value> items;
  for (Value& item : runtime.elements(value)) {
    const Value key = ignore_case(runtime, path.get(runtime, item), parameters.boolean(0, false));
    if (!is_hashable(key)) runtime.raise("unhashable type: '{}'", type_name(key));
    if (seen.dict().find(key) != nullptr) continue;
    const_cast<Dict&>(seen.dict()).set(key, Value::none());
    items.push_back(std::move(item));
  }
  return generator(runtime, std::move(items));
}

Value extreme(Runtime& runtime, const Value& value, Args& args, bool is_max) {
  const Parameters parameters(runtime, is_max ? "max" : "min", args, {"case_sensitive", "attribute"});
  const AttributePath path(runtime, parameters[1]);
  Value best;
  Value best_key;
  for (const Value& item : runtime.elements(value)) {
    const Value key = ignore_case(runtime, path.get(runtime, item), parameters.boolean(0, false));
    if (best.is_missing() || (is_max ? runtime.is_less(best_key, key, ">") : runtime.is_less(key, best_key))) {
      best = item;
      best_key = key;
    }
  }
  return best.is_missing() ? runtime.undefined("No aggregated item, sequence was empty.") : best;
}

Value filter_min(Runtime& runtime, const Value& value, Args& args) { return extreme(runtime, value, args, false); }
Value filter_max(Runtime& runtime, const Value& value, Args& args) { return extreme(runtime, value, args, true); }

Value filter_sum(Runtime& runtime, const Value& value, Args& args) {
  const Parameters parameters(runtime, "sum", args, {"attribute", "start"});
  const AttributePath path(runtime, parameters[0]);
  Value total = parameters.has(1) ? parameters[1] : Value(0);
  if (total.is_string()) runtime.raise("sum() can't sum strings [use ''.join(seq) instead]");
  for (const Value& item : runtime.elements(value)) {
    total = runtime.binary(ExprKind::kAdd, total, path.get(runtime, item));
  }
  return total;
}

Value filter_reverse(Runtime& runtime, const Value& value, Args& args) {
  const Parameters none(runtime, "reverse", args, {});
  if (value.is_string()) return runtime.slice(value, Value::none(), Value::none(), Value(-1));
  std::vector<Value> items = runtime.elements(value);
  std::reverse(items.begin(), items.end());
  if (value.is(Type::kIterator)) return runtime.list(std::move(items));
  const char* name = value.is(Type::kList)    ? "list_reverseiterator"
                     : value.is(Type::kDict)  ? "dict_reversekeyiterator"
                     : value.is(Type::kRange) ? "range_iterator"
                                              : "reversed";
  return generator(runtime, std::move(items), name);
}

Value filter_batch(Runtime& runtime, const Value& value, Args& args) {
  const Parameters parameters(runtime, "batch", args, {"linecount", "fill_with"}, 1);
  const int64_t n_line = parameters.integer(0, 1);
  std::vector<Value> lines;
  std::vector<Value> line;
  for (Value& item : runtime.elements(value)) {
    if (static_cast<int64_t>(line.size()) == n_line) {
      lines.push_back(runtime.list(std::move(line)));
      line = {};
    }
    line.push_back(std::move(item));
  }
  if (!line.empty()) {
    if (parameters.has(1) && !parameters[1].is_none() && n_line > static_cast<int64_t>(line.size())) {
      runtime.budget().check_items(static_cast<size_t>(n_line));
      line.resize(static_cast<size_t>(n_line), parameters[1]);
    }
    lines.push_back(runtime.list(std::move(line)));
  }
  return generator(runtime, std::move(lines));
}

Value filter_slice(Runtime& runtime, const Value& value, Args& args) {
  const Parameters parameters(runtime, "slice", args, {"slices", "fill_with"}, 1);
  const int64_t n_slices = parameters.integer(0, 1);
  const std::vector<Value> items = runtime.elements(value);
  if (n_slices == 0) runtime.raise("integer division or modulo by zero");
  if (n_slices < 0) return generator(runtime, {});
  runtime.budget().check_items(static_cast<size_t>(n_slices));
  const int64_t per_slice = static_cast<int64_t>(items.size()) / n_slices;
  const int64_t n_longer = static_cast<int64_t>(items.size()) % n_slices;
  std::vector<Value> slices;
  int64_t at = 0;
  for (int64_t i = 0; i < n_slices; ++i) {
    const int64_t n = per_slice + (i < n_longer ? 1 : 0);
    std::vector<Value> slice(items.begin() + at, items.begin() + at + n);
    at += n;
    if (parameters.has(1) && !parameters[1].is_none() && i >= n_longer) slice.push_back(parameters[1]);
    slices.push_back(runtime.list(std::move(slice)));
  }
  return generator(runtime, std::move(slices));
}

Value filter_groupby(Runtime& runtime, const Value& value, Args& args) {
  const Parameters parameters(runtime, "groupby", args, {"attribute", "default", "case_sensitive"}, 1);
  const AttributePath path(runtime, parameters[0]);
  const bool is_case_sensitive = parameters.boolean(2, false);
  std::vector<Value> items = runtime.elements(value);
  std::vector<Value> keys;
  for (const Value& item : items)
    keys.push_back(ignore_case(runtime, path.get(runtime, item, parameters[1]), is_case_sensitive));
  runtime.sort(items, keys, false);
  std::vector<Value> groups;
  for (size_t begin = 0; begin < items.size();) {
    size_t end = begin + 1;
    while (end < items.size() && runtime.equal(keys[begin], keys[end])) ++end;
    const auto at = [&](size_t index) { return items.begin() + static_cast<std::ptrdiff_t>(index); };
    const Value key = is_case_sensitive ? keys[begin] : path.get(runtime, items[begin], parameters[1]);
    Value group = runtime.tuple({key, runtime.list(std::vector<Value>(at(begin), at(end)))});
    const_cast<Sequence&>(group.sequence()).is_group = true;
    groups.push_back(std::move(group));
    begin = end;
  }
  return runtime.list(std::move(groups));
}

Value filter_attr(Runtime& runtime, const Value& value, Args& args) {
  const Parameters parameters(runtime, "attr", args, {"name"}, 1);
  const std::string_view name = parameters.string(0, "");
  // Only attributes proper: a dict's keys do not count.
  if (value.is(Type::kDict) && find_method(value, name) == nullptr) {
    return runtime.undefined(fmt::format("'dict object' has no attribute '{}'", name));
  }
  return runtime.attribute(value, name);
}

// Arguments that an iterator keeps.
uint32_t depth_of(const Value& source, const Args& args) {
  uint32_t depth = source.depth();
  for (const Value& value : args.positional) depth = std::max(depth, value.depth());
  for (const auto& [name, value] : args.named) depth = std::max(depth, value.depth());
  return depth;
}

Value filter_map(Runtime& runtime, const Value& value, Args& args) {
  if (!is_true(value) && !value.is(Type::kIterator)) return generator(runtime, {});
  const uint32_t depth = depth_of(value, args);
  if (args.positional.empty()) {
    Parameters parameters(runtime, "map", args, {"attribute", "default"});
    if (!parameters.has(0)) runtime.raise("map requires a filter argument");
    return lazy(runtime, depth,
                [&runtime, value, next = Iterator::Next(), path = AttributePath(runtime, parameters[0]),
                 default_value = parameters[1]](Value& out) mutable {
                  if (!next) next = runtime.iterate(value);
                  runtime.budget().step(2);
                  Value item;
                  if (!next(item)) return false;
                  out = path.get(runtime, std::move(item), default_value);
                  return true;
                });
  }
  Args rest;
  rest.positional.assign(args.positional.begin() + 1, args.positional.end());
  rest.named = args.named;
  const Value name = args.positional[0];
  if (!name.is_string()) runtime.raise("map: the filter's name must be str, not {}", type_name(name));
  return lazy(runtime, depth, [&runtime, value, next = Iterator::Next(), name, rest](Value& out) mutable {
    if (!next) next = runtime.iterate(value);
    runtime.budget().step(2);
    Value item;
    if (!next(item)) return false;
    Args call_args = rest;
    out = runtime.call_filter(name.view(), item, call_args);
    return true;
  });
}

Value select(Runtime& runtime, const Value& value, Args& args, bool keeps, bool has_attribute) {
  if (!is_true(value) && !value.is(Type::kIterator)) return generator(runtime, {});
  const uint32_t depth = depth_of(value, args);
  size_t n_used = 0;
  if (has_attribute) {
    if (args.positional.empty()) runtime.raise("Missing parameter for attribute name");
    n_used = 1;
  }
  const AttributePath path(runtime, has_attribute ? args.positional[0] : Value());
  Value name;
  if (args.positional.size() > n_used) {
    name = args.positional[n_used++];
    if (!name.is_string()) runtime.raise("the test's name must be str, not {}", type_name(name));
  }
  Args rest;
  rest.positional.assign(
      args.positional.begin() + static_cast<std::ptrdiff_t>(std::min(n_used, args.positional.size())),
      args.positional.end());
  rest.named = args.named;
  return lazy(runtime, depth, [&runtime, value, next = Iterator::Next(), path, name, rest, keeps](Value& out) mutable {
    if (!next) next = runtime.iterate(value);
    Value item;
    while (next(item)) {
      runtime.budget().step(2);
      const Value tested = path.get(runtime, item);
      Args call_args = rest;
      const bool is_ok = name.is_missing() ? is_true(tested) : runtime.call_test(name.view(), tested, call_args);
      if (is_ok != keeps) continue;
      out = std::move(item);
      return true;
    }
    return false;
  });
}

Value filter_select(Runtime& runtime, const Value& value, Args& args) {
  return select(runtime, value, args, true, false);
}
Value filter_reject(Runtime& runtime, const Value& value, Args& args) {
  return select(runtime, value, args, false, false);
}
Value filter_selectattr(Runtime& runtime, const Value& value, Args& args) {
  return select(runtime, value, args, true, true);
}
Value filter_rejectattr(Runtime& runtime, const Value& value, Args& args) {
  return select(runtime, value, args, false, true);
}

constexpr NamedFunction<Filter> kFilters[] = {
    {"length", filter_length},
    {"count", filter_length},
    {"default", filter_default},
    {"d", filter_default},
    {"list", filter_list},
    {"first", filter_first},
    {"last", filter_last},
    {"join", filter_join},
    {"map", filter_map},
    {"select", filter_select},
    {"reject", filter_reject},
    {"selectattr", filter_selectattr},
    {"rejectattr", filter_rejectattr},
    {"items", filter_items},
    {"sort", filter_sort},
    {"dictsort", filter_dictsort},
    {"unique", filter_unique},
    {"min", filter_min},
    {"max", filter_max},
    {"sum", filter_sum},
    {"reverse", filter_reverse},
    {"batch", filter_batch},
    {"slice", filter_slice},
    {"groupby", filter_groupby},
    {"attr", filter_attr},
    {"random", filter_random},
};

}  // namespace

Filter find_sequence_filter(std::string_view name) { return find_in(kFilters, name); }

Value Runtime::call_filter(std::string_view name, const Value& value, Args& args) {
  const Filter filter = find_filter(name);
  if (filter == nullptr) raise("No filter named '{}'.", name);
  return filter(*this, value, args);
}

}  // namespace mobilellm::jinja
