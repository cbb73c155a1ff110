// Argument matching, and the look-up of filters over the tables.
#include "chat/jinja/builtins.h"

#include "chat/jinja/runtime.h"

namespace mobilellm::jinja {

Filter find_filter(std::string_view name) {
  if (const Filter filter = find_sequence_filter(name)) return filter;
  if (const Filter filter = find_text_filter(name)) return filter;
  return find_number_filter(name);
}

Parameters::Parameters(Runtime& runtime, const char* function, Args& args,
                       std::initializer_list<std::string_view> names, size_t n_required)
    : runtime_(runtime), function_(function), values_(names.size()) {
  if (args.positional.size() > names.size()) {
    runtime.raise("{}() takes at most {} arguments ({} given)", function, names.size(), args.positional.size());
  }
  for (size_t i = 0; i < args.positional.size(); ++i) values_[i] = args.positional[i];
  for (const auto& [key, value] : args.named) {
    size_t index = 0;
    for (const std::string_view name : names) {
      if (name == key) break;
      ++index;
    }
    if (index == names.size()) runtime.raise("{}() got an unexpected keyword argument '{}'", function, key);
    if (has(index)) runtime.raise("{}() got multiple values for argument '{}'", function, key);
    values_[index] = value;
  }
  for (size_t i = 0; i < n_required; ++i) {
    if (!has(i)) runtime.raise("{}() missing required argument '{}'", function, names.begin()[i]);
  }
}

int64_t Parameters::integer(size_t index, int64_t default_value) const {
  const Value& value = values_[index];
  if (value.is_missing()) return default_value;
  if (value.is_undefined()) runtime_.raise_undefined(value);
  if (!value.is_integral()) {
    runtime_.raise("{}(): '{}' object cannot be interpreted as an integer", function_, type_name(value));
  }
  return value.as_int();
}

bool Parameters::boolean(size_t index, bool default_value) const {
  return has(index) ? is_true(values_[index]) : default_value;
}

std::string_view Parameters::string(size_t index, std::string_view default_value) const {
  const Value& value = values_[index];
  if (value.is_missing() || value.is_none()) return default_value;
  if (value.is_undefined()) runtime_.raise_undefined(value);
  if (!value.is_string()) runtime_.raise("{}() argument must be str, not {}", function_, type_name(value));
  return value.view();
}

}  // namespace mobilellm::jinja
