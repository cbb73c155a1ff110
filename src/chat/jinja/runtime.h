/// State of one rendering, and what evaluation offers to built-in functions.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "chat/jinja/ast.h"
#include "chat/jinja/budget.h"
#include "chat/jinja/value.h"
#include "chat/template.h"

namespace mobilellm::jinja {

/// Variables of one scope.
struct Frame {
  Frame* parent = nullptr;
  std::vector<std::pair<std::string_view, Value>> variables;  // Names live in the syntax tree.
  bool is_captured = false;  ///< A macro was made here: the frame lives until the rendering ends.

  const Value* find(std::string_view name) const {
    for (const auto& [key, value] : variables) {
      if (key == name) return &value;
    }
    return nullptr;
  }
  void set(std::string_view name, Value value) {
    for (auto& [key, old] : variables) {
      if (key == name) {
        old = std::move(value);
        return;
      }
    }
    variables.emplace_back(name, std::move(value));
  }
};

/// A macro or call block with the scope it was defined in.
class Macro : public Heap {
 public:
  Macro(Budget* budget, const Signature* signature, const Body* body, Frame* frame)
      : Heap(budget, sizeof(Macro)), signature_(signature), body_(body), frame_(frame) {}
  const Signature& signature() const { return *signature_; }
  const Body& body() const { return *body_; }
  Frame* frame() const { return frame_; }

 private:
  const Signature* signature_;
  const Body* body_;
  Frame* frame_;
};

class Runtime {
 public:
  Runtime(const Template& program, const std::optional<WallClock>& now);
  ~Runtime();
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  /// Makes a JSON value visible to the template; the name must outlive the rendering.
  void set_variable(std::string_view name, const Json& value);
  /// Errors name the template and the line.
  std::string render();

  // For built-in functions:
  Budget& budget() { return budget_; }
  /// Throws kTemplate at the line being evaluated.
  template <typename... Arguments>
  [[noreturn]] void raise(fmt::format_string<Arguments...> format, Arguments&&... arguments) const {
    raise_text(fmt::format(format, std::forward<Arguments>(arguments)...));
  }
  [[noreturn]] void raise_text(const std::string& message) const;
  /// raise_exception().
  [[noreturn]] void refuse(const std::string& reason) const;
  /// Throws with the undefined value's own message.
  [[noreturn]] void raise_undefined(const Value& value) const { raise_text(value.undefined().message()); }

  Value text(std::string text, bool is_safe = false) { return make_text(&budget_, std::move(text), is_safe); }
  Value list(std::vector<Value> items) { return make_list(&budget_, std::move(items)); }
  Value tuple(std::vector<Value> items) { return make_tuple(&budget_, std::move(items)); }
  Value undefined(std::string message) { return make_undefined(&budget_, std::move(message)); }
  Value iterator(const char* name, const Value& source, Iterator::Next next) {
    return make<Iterator>(Type::kIterator, &budget_, name, source.depth(), std::move(next));
  }
  Value new_namespace();
  const WallClock& now() const { return now_; }

  /// The elements of any iterable; throws for other types.
  std::vector<Value> elements(const Value& value);
  /// An iterator over any iterable.
  Iterator::Next iterate(const Value& value);
  /// object.name, then object[name]; undefined when there is neither.
  Value attribute(const Value& object, std::string_view name);
  /// object[key], then object.key for strings; undefined when there is neither.
  Value item(const Value& object, const Value& key);
  Value slice(const Value& object, const Value& start, const Value& stop, const Value& step);
  bool contains(const Value& container, const Value& element);
  Value call(const Value& function, Args& args);
  Value call_filter(std::string_view name, const Value& value, Args& args);
  bool call_test(std::string_view name, const Value& value, Args& args);
  bool equal(const Value& a, const Value& b) { return equals(budget_, a, b); }
  /// a < b; throws when the types cannot be ordered.
  bool is_less(const Value& a, const Value& b, const char* op = "<");
  bool compare(CompareOp op, const Value& a, const Value& b);
  Value binary(ExprKind kind, const Value& a, const Value& b);
  Value negative(const Value& value);
  /// Stable sort of `items` by `keys`, both in the same order.
  void sort(std::vector<Value>& items, std::vector<Value>& keys, bool is_reverse);

  /// Python's str() and repr().
  std::string to_str(const Value& value);
  std::string to_repr(const Value& value);
  /// The bytes of a string value, or str() of another; undefined gives "".
  std::string_view to_view(const Value& value, std::string& storage);

 private:
  enum class Flow { kNormal, kBreak, kContinue };
  class Scope;
  class Deeper;

  Value from_json(const Json& value);

  Value eval(const Expr& expr);
  Value eval_name(const Expr& expr);
  Value eval_call(const Expr& expr);
  Value eval_filter(const Expr& expr, const Value& value);
  Value eval_concat(const Expr& expr);
  bool eval_compare(const Expr& expr);
  Args eval_args(const CallArgs* args);
  Value lookup(std::string_view name);

  Flow exec(const Body& body);
  Flow exec(const Statement& statement);
  Flow exec_if(const Statement& statement);
  Flow exec_for(const Statement& statement);
  Flow run_loop(const Statement& statement, const Value& iterable, int64_t depth0);
  Value repack(const Target& target);
  bool run_iterations(const Statement& statement, std::vector<Value> items, int64_t depth0);
  Flow exec_set_block(const Statement& statement);
  Flow exec_with(const Statement& statement);
  void exec_call_block(const Statement& statement);
  Flow exec_filter_block(const Statement& statement);
  void exec_block(const Statement& statement);
  void assign(const Target& target, const Value& value);
  std::string capture(const Body& body, Flow* flow);
  Value call_macro(const Macro& macro, Args& args);
  Value call_loop(Loop& loop, Args& args);
  Value make_macro(const Signature& signature, const Body& body);
  void write(std::string_view text);
  void write_value(const Value& value);
  void write_text_value(const Value& value);

  Frame* new_frame(Frame* parent);
  void release_frame(Frame* frame);

  Budget budget_;  // First: values report to it when they go.
  const Template& program_;
  WallClock now_;
  std::deque<Frame> frames_;
  std::vector<Frame*> free_frames_;
  std::vector<Value> namespaces_;
  Frame context_;
  Frame* top_ = nullptr;
  Frame* frame_ = nullptr;
  std::string* out_ = nullptr;
  size_t n_captured_bytes_ = 0;  // Output held by buffers other than out_.
  int line_ = 1;
  int depth_ = 0;
};

/// Appends Python's repr of a string.
void append_repr(std::string& out, std::string_view text);
/// Python's repr of a float.
std::string float_repr(double value);

}  // namespace mobilellm::jinja
