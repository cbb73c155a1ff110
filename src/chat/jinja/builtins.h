/// The tables of filters, tests, methods and global functions, and what they use to read their arguments.
#pragma once

#include <string>
#include <string_view>

#include "chat/jinja/ast.h"
#include "chat/jinja/value.h"

namespace mobilellm::jinja {

/// Null when there is none of that name.
Filter find_filter(std::string_view name);
Test find_test(std::string_view name);
Callable::Function find_method(const Value& value, std::string_view name);
/// Whether the method would change a list or dict, which a template may not do.
bool is_mutating_method(const Value& value, std::string_view name);
/// Attributes of loop variables and macros; missing when there is none of that name.
Value object_attribute(Runtime& runtime, const Value& object, std::string_view name);
/// The value of a global name (range, namespace, ...), missing when there is none.
Value find_global(Runtime& runtime, std::string_view name);

/// One name and its function in a table.
template <typename Function>
struct NamedFunction {
  std::string_view name;
  Function function;
};
template <typename Function, size_t n>
Function find_in(const NamedFunction<Function> (&table)[n], std::string_view name) {
  for (const auto& row : table) {
    if (row.name == name) return row.function;
  }
  return nullptr;
}

// Parts of the tables, one file each.
Filter find_text_filter(std::string_view name);
Filter find_sequence_filter(std::string_view name);
Filter find_number_filter(std::string_view name);
Callable::Function find_text_method(std::string_view name);

/// Matches call arguments to parameter names, as a Python function with these parameters does.
class Parameters {
 public:
  /// Throws for too many, unknown or repeated arguments, and for fewer than `n_required`.
  Parameters(Runtime& runtime, const char* function, Args& args, std::initializer_list<std::string_view> names,
             size_t n_required = 0);
  /// Missing when not given.
  const Value& operator[](size_t index) const { return values_[index]; }
  bool has(size_t index) const { return !values_[index].is_missing(); }
  int64_t integer(size_t index, int64_t default_value) const;
  bool boolean(size_t index, bool default_value) const;
  /// A string argument; throws for another type. The default when missing or None.
  std::string_view string(size_t index, std::string_view default_value) const;

 private:
  Runtime& runtime_;
  const char* function_;
  std::vector<Value> values_;
};

}  // namespace mobilellm::jinja
