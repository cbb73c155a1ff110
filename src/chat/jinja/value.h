/// Values of the template language, which are those of Python: immutable once built, apart from namespaces.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "chat/jinja/budget.h"

namespace mobilellm::jinja {

enum class Type : uint8_t {
  kMissing,  ///< No value at all (an argument not given); never visible to a template.
  kUndefined,
  kNone,
  kBool,
  kInt,
  kFloat,
  kString,
  kList,
  kTuple,
  kDict,
  kRange,
  kView,      ///< dict.keys(), .values(), .items().
  kIterator,  ///< A generator: lazy, read once.
  kNamespace,
  kLoop,
  kMacro,
  kCallable,  ///< A global function, a bound method or an object of the globals such as cycler.
};

/// Counted heap part of a value. Text and containers report their size to the budget of their rendering.
class Heap {
 public:
  explicit Heap(Budget* budget, size_t n_bytes);
  virtual ~Heap();
  Heap(const Heap&) = delete;
  Heap& operator=(const Heap&) = delete;

  void add_ref() noexcept { n_refs_.fetch_add(1, std::memory_order_relaxed); }
  void drop_ref() noexcept {
    if (n_refs_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
  }
  uint32_t depth() const { return depth_; }  ///< Levels of nesting below and including this one.

 protected:
  void grow(size_t n_bytes);             ///< Charges more to the budget.
  void set_depth(uint32_t child_depth);  ///< One more than the deepest child; throws past kMaxValueDepth.
  Budget* budget_;

 private:
  size_t n_bytes_;
  std::atomic<uint32_t> n_refs_{0};
  uint32_t depth_ = 0;
};

class Text;
class Sequence;
class Dict;
class Range;
class Iterator;
class Undefined;
class Namespace;
class Loop;
class Macro;
class Callable;

/// 16 bytes: a tag and a number or a counted pointer.
class Value {
 public:
  Value() : type_(Type::kMissing), int_(0) {}
  Value(bool value) : type_(Type::kBool), int_(value ? 1 : 0) {}
  Value(int value) : type_(Type::kInt), int_(value) {}
  Value(int64_t value) : type_(Type::kInt), int_(value) {}
  Value(double value) : type_(Type::kFloat), float_(value) {}
  Value(const char*) = delete;
  Value(Type type, Heap* heap) : type_(type), heap_(heap) { heap_->add_ref(); }
  static Value none() {
    Value value;
    value.type_ = Type::kNone;
    return value;
  }
  Value(const Value& other) : type_(other.type_), int_(other.int_) {
    if (is_heap()) heap_->add_ref();
  }
  Value(Value&& other) noexcept : type_(other.type_), int_(other.int_) { other.type_ = Type::kMissing; }
  Value& operator=(Value other) noexcept {
    std::swap(type_, other.type_);
    std::swap(int_, other.int_);
    return *this;
  }
  ~Value() {
    if (is_heap()) heap_->drop_ref();
  }

  Type type() const { return type_; }
  bool is(Type type) const { return type_ == type; }
  bool is_missing() const { return type_ == Type::kMissing; }
  bool is_undefined() const { return type_ == Type::kUndefined; }
  bool is_none() const { return type_ == Type::kNone; }
  bool is_string() const { return type_ == Type::kString; }
  bool is_integral() const { return type_ == Type::kInt || type_ == Type::kBool; }
  bool is_number() const { return is_integral() || type_ == Type::kFloat; }
  bool is_sequence() const { return type_ == Type::kList || type_ == Type::kTuple; }

  int64_t as_int() const { return int_; }  ///< Of an int or bool.
  double as_double() const { return type_ == Type::kFloat ? float_ : static_cast<double>(int_); }
  const Text& text() const;
  std::string_view view() const;  ///< The bytes of a string.
  const Sequence& sequence() const;
  const std::vector<Value>& items() const;  ///< Of a list, tuple or view.
  const Dict& dict() const;
  const Range& range() const;
  Iterator& iterator() const;
  const Undefined& undefined() const;
  Namespace& name_space() const;
  Loop& loop() const;
  const Macro& macro() const;
  Callable& callable() const;
  const Heap* heap() const { return is_heap() ? heap_ : nullptr; }
  uint32_t depth() const { return is_heap() ? heap_->depth() : 0; }

 private:
  bool is_heap() const { return type_ == Type::kString || type_ == Type::kUndefined || type_ >= Type::kList; }
  Type type_;
  union {
    int64_t int_;
    double float_;
    Heap* heap_;
  };
};

/// A string: well-formed UTF-8, indexed by code point.
class Text : public Heap {
 public:
  Text(Budget* budget, std::string text, bool is_safe);
  const std::string& str() const { return text_; }
  bool is_safe() const { return is_safe_; }  ///< Markup: the result of `safe` or `escape`.
  size_t length() const { return length_; }  ///< Code points.
  bool is_ascii() const { return length_ == text_.size(); }
  /// Byte offset of the code point with this index (<= length()).
  size_t byte_offset(size_t index) const;

 private:
  std::string text_;
  bool is_safe_;
  size_t length_;
};

/// List, tuple, or the snapshot behind a dict view.
class Sequence : public Heap {
 public:
  enum class ViewKind : uint8_t { kNotView, kKeys, kValues, kItems };
  Sequence(Budget* budget, std::vector<Value> items, ViewKind view = ViewKind::kNotView);
  const std::vector<Value>& items() const { return items_; }
  ViewKind view() const { return view_; }
  bool is_group = false;  ///< The pair of groupby, whose parts are also named grouper and list.

 private:
  std::vector<Value> items_;
  ViewKind view_;
};

/// Insertion-ordered dict with constant-time lookup.
class Dict : public Heap {
 public:
  using Entry = std::pair<Value, Value>;
  explicit Dict(Budget* budget);
  const std::vector<Entry>& entries() const { return entries_; }
  size_t size() const { return entries_.size(); }
  /// The value of a hashable key, or nullptr.
  const Value* find(const Value& key) const;
  const Value* find(std::string_view key) const;
  /// Only while the dict is being built.
  void set(const Value& key, Value value);

 private:
  size_t find_index(const Value& key, uint64_t hash) const;
  void rehash();
  std::vector<Entry> entries_;
  std::vector<uint32_t> table_;  // Entry index + 1 by hash, open addressing; only above a few entries.
};

class Range : public Heap {
 public:
  Range(Budget* budget, int64_t start, int64_t stop, int64_t step);
  int64_t start, stop, step;
  int64_t length;
  int64_t at(int64_t index) const { return start + index * step; }
};

/// A generator.
class Iterator : public Heap {
 public:
  using Next = std::function<bool(Value&)>;
  /// `sources` are what `next` reads: they bound the nesting.
  Iterator(Budget* budget, const char* name, uint32_t source_depth, Next next);
  bool next(Value& out) { return next_(out); }
  const char* name() const { return name_; }

 private:
  const char* name_;
  Next next_;
};

/// Stands for something that does not exist; the message says what, when it is used.
class Undefined : public Heap {
 public:
  Undefined(Budget* budget, std::string message);
  const std::string& message() const { return message_; }

 private:
  std::string message_;
};

/// namespace(): the one thing a template can change. Owned by the rendering, which breaks cycles at its end.
class Namespace : public Heap {
 public:
  explicit Namespace(Budget* budget) : Heap(budget, sizeof(Namespace)) {}
  const Value* find(std::string_view name) const;
  void set(std::string_view name, Value value);
  const std::vector<std::pair<std::string, Value>>& attributes() const { return attributes_; }
  void clear() { attributes_.clear(); }

 private:
  std::vector<std::pair<std::string, Value>> attributes_;
};

class Runtime;

/// Arguments of a call.
struct Args {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

/// A function, bound method, or callable object of the globals.
class Callable : public Heap {
 public:
  using Function = Value (*)(Runtime& runtime, const Value& self, Args& args);
  Callable(Budget* budget, std::string_view name, Function function, Value self = {})
      : Heap(budget, sizeof(Callable)), name_(name), function_(function), self_(std::move(self)) {
    set_depth(self_.depth());
  }
  virtual Value call(Runtime& runtime, Args& args) { return function_(runtime, self_, args); }
  /// Attributes of objects such as cycler; missing when there is none.
  virtual Value attribute(Runtime&, std::string_view) { return {}; }
  std::string_view name() const { return name_; }
  const Value& self() const { return self_; }

 private:
  std::string_view name_;
  Function function_;
  Value self_;
};

/// Builds a heap value.
template <typename T, typename... Arguments>
Value make(Type type, Arguments&&... arguments) {
  return Value(type, new T(std::forward<Arguments>(arguments)...));
}
Value make_text(Budget* budget, std::string text, bool is_safe = false);
Value make_list(Budget* budget, std::vector<Value> items);
Value make_tuple(Budget* budget, std::vector<Value> items);
Value make_undefined(Budget* budget, std::string message);

/// "str", "int", "NoneType" and so on, as Python names them.
const char* type_name(const Value& value);
bool is_true(const Value& value);
bool is_hashable(const Value& value);
/// Equal as Python's ==; counts steps.
bool equals(Budget& budget, const Value& a, const Value& b);
/// a < b; nothing when the types cannot be ordered.
std::optional<bool> less(Budget& budget, const Value& a, const Value& b);
/// Python's `is`, as far as values can tell.
bool is_same(const Value& a, const Value& b);
/// The number of elements, nothing when the type has none.
std::optional<int64_t> length_of(const Value& value);

}  // namespace mobilellm::jinja
