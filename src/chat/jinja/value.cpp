// Values: construction, dict lookup, equality and order.
#include "chat/jinja/value.h"

#include <cmath>

#include "base/utf8.h"
#include "chat/jinja/loop.h"

namespace mobilellm::jinja {
namespace {

constexpr size_t kAllocatorBytes = 16;
// Up to this many entries a dict is searched entry by entry.
constexpr size_t kMaxUnindexed = 8;
constexpr size_t kNotFound = static_cast<size_t>(-1);

// Hash-table walks and comparisons of keys happen inside other counted work.
Budget unlimited_budget() { return {}; }

uint64_t mix(uint64_t hash) {
  hash ^= hash >> 33;
  hash *= 0xFF51AFD7ED558CCDULL;
  hash ^= hash >> 33;
  return hash;
}

uint64_t hash_value(const Value& value) {
  switch (value.type()) {
    case Type::kString:
      return std::hash<std::string_view>()(value.view());
    case Type::kInt:
    case Type::kBool:
      return mix(static_cast<uint64_t>(value.as_int()));
    case Type::kFloat: {
      const double number = value.as_double();
      if (number == std::floor(number) && std::abs(number) < 9e18) {
        return mix(static_cast<uint64_t>(static_cast<int64_t>(number)));
      }
      return std::hash<double>()(number);
    }
    case Type::kTuple: {
      uint64_t hash = 0x9E3779B97F4A7C15ULL;
      for (const Value& item : value.items()) hash = mix(hash + hash_value(item));
      return hash;
    }
    case Type::kNone:
      return 0x1234567;
    default:
      return mix(static_cast<uint64_t>(reinterpret_cast<uintptr_t>(value.heap())));
  }
}

bool equal_ints_and_floats(const Value& a, const Value& b) {
  if (a.is_integral() && b.is_integral()) return a.as_int() == b.as_int();
  return a.as_double() == b.as_double();
}

bool equal_items(Budget& budget, const std::vector<Value>& a, const std::vector<Value>& b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    if (!equals(budget, a[i], b[i])) return false;
  }
  return true;
}

bool equal_dicts(Budget& budget, const Dict& a, const Dict& b) {
  if (a.size() != b.size()) return false;
  for (const auto& [key, value] : a.entries()) {
    const Value* other = b.find(key);
    if (other == nullptr || !equals(budget, value, *other)) return false;
  }
  return true;
}

}  // namespace

Heap::Heap(Budget* budget, size_t n_bytes) : budget_(budget), n_bytes_(n_bytes + kAllocatorBytes) {
  if (budget_ != nullptr) budget_->charge(n_bytes_);
}

Heap::~Heap() {
  if (budget_ != nullptr) budget_->release(n_bytes_);
}

void Heap::grow(size_t n_bytes) {
  if (budget_ == nullptr) return;
  budget_->charge(n_bytes);
  n_bytes_ += n_bytes;
}

void Heap::set_depth(uint32_t child_depth) {
  if (child_depth + 1 > kMaxValueDepth) Budget::fail_limit("value nested too deeply");
  depth_ = std::max(depth_, child_depth + 1);
}

const Text& Value::text() const { return static_cast<const Text&>(*heap_); }
std::string_view Value::view() const { return text().str(); }
const Sequence& Value::sequence() const { return static_cast<const Sequence&>(*heap_); }
const std::vector<Value>& Value::items() const { return sequence().items(); }
const Dict& Value::dict() const { return static_cast<const Dict&>(*heap_); }
const Range& Value::range() const { return static_cast<const Range&>(*heap_); }
Iterator& Value::iterator() const { return static_cast<Iterator&>(*heap_); }
const Undefined& Value::undefined() const { return static_cast<const Undefined&>(*heap_); }
Namespace& Value::name_space() const { return static_cast<Namespace&>(*heap_); }
Loop& Value::loop() const { return static_cast<Loop&>(*heap_); }
Callable& Value::callable() const { return static_cast<Callable&>(*heap_); }

Text::Text(Budget* budget, std::string text, bool is_safe)
    : Heap(budget, sizeof(Text) + text.size()),
      text_(std::move(text)),
      is_safe_(is_safe),
      length_(count_code_points(text_)) {}

size_t Text::byte_offset(size_t index) const {
  if (is_ascii()) return index;
  size_t at = 0;
  while (index > 0) {
    ++at;
    while (at < text_.size() && (static_cast<unsigned char>(text_[at]) & 0xC0) == 0x80) ++at;
    --index;
  }
  return at;
}

Sequence::Sequence(Budget* budget, std::vector<Value> items, ViewKind view)
    : Heap(budget, sizeof(Sequence) + items.size() * sizeof(Value)), items_(std::move(items)), view_(view) {
  uint32_t deepest = 0;
  for (const Value& item : items_) deepest = std::max(deepest, item.depth());
  set_depth(deepest);
}

Dict::Dict(Budget* budget) : Heap(budget, sizeof(Dict)) { set_depth(0); }

const Value* Dict::find(const Value& key) const {
  if (!is_hashable(key)) return nullptr;
  const size_t index = find_index(key, table_.empty() ? 0 : hash_value(key));
  return index == kNotFound ? nullptr : &entries_[index].second;
}

const Value* Dict::find(std::string_view key) const {
  if (table_.empty()) {
    for (const auto& [name, value] : entries_) {
      if (name.is_string() && name.view() == key) return &value;
    }
    return nullptr;
  }
  const size_t mask = table_.size() - 1;
  for (size_t slot = std::hash<std::string_view>()(key) & mask; table_[slot] != 0; slot = (slot + 1) & mask) {
    const auto& [name, value] = entries_[table_[slot] - 1];
    if (name.is_string() && name.view() == key) return &value;
  }
  return nullptr;
}

void Dict::set(const Value& key, Value value) {
  const uint64_t hash = table_.empty() ? 0 : hash_value(key);
  set_depth(std::max(key.depth(), value.depth()));
  const size_t index = find_index(key, hash);
  if (index != kNotFound) {
    entries_[index].second = std::move(value);
    return;
  }
  grow(sizeof(Entry) + 2 * sizeof(uint32_t));
  entries_.emplace_back(key, std::move(value));
  if (entries_.size() > kMaxUnindexed && entries_.size() * 2 > table_.size()) {
    rehash();
  } else if (!table_.empty()) {
    const size_t mask = table_.size() - 1;
    size_t slot = hash & mask;
    while (table_[slot] != 0) slot = (slot + 1) & mask;
    table_[slot] = static_cast<uint32_t>(entries_.size());
  }
}

size_t Dict::find_index(const Value& key, uint64_t hash) const {
  Budget budget = unlimited_budget();
  if (table_.empty()) {
    for (size_t i = 0; i < entries_.size(); ++i) {
      if (equals(budget, entries_[i].first, key)) return i;
    }
    return kNotFound;
  }
  const size_t mask = table_.size() - 1;
  for (size_t slot = hash & mask; table_[slot] != 0; slot = (slot + 1) & mask) {
    if (equals(budget, entries_[table_[slot] - 1].first, key)) return table_[slot] - 1;
  }
  return kNotFound;
}

void Dict::rehash() {
  size_t size = 32;
  while (size < entries_.size() * 4) size *= 2;
  table_.assign(size, 0);
  const size_t mask = size - 1;
  for (size_t i = 0; i < entries_.size(); ++i) {
    size_t slot = hash_value(entries_[i].first) & mask;
    while (table_[slot] != 0) slot = (slot + 1) & mask;
    table_[slot] = static_cast<uint32_t>(i + 1);
  }
}

Range::Range(Budget* budget, int64_t first, int64_t end, int64_t increment)
    : Heap(budget, sizeof(Range)), start(first), stop(end), step(increment), length(0) {
  // In unsigned arithmetic: the difference of two int64 may not fit in one.
  if (step > 0 && start < stop) {
    const uint64_t span = static_cast<uint64_t>(stop) - static_cast<uint64_t>(start);
    length = static_cast<int64_t>(std::min<uint64_t>((span - 1) / static_cast<uint64_t>(step) + 1, INT64_MAX));
  } else if (step < 0 && start > stop) {
    const uint64_t span = static_cast<uint64_t>(start) - static_cast<uint64_t>(stop);
    length = static_cast<int64_t>(std::min<uint64_t>((span - 1) / (0 - static_cast<uint64_t>(step)) + 1, INT64_MAX));
  }
}

Iterator::Iterator(Budget* budget, const char* name, uint32_t source_depth, Next next)
    : Heap(budget, sizeof(Iterator) + 128), name_(name), next_(std::move(next)) {
  set_depth(source_depth);
}

Undefined::Undefined(Budget* budget, std::string message)
    : Heap(budget, sizeof(Undefined) + message.size()), message_(std::move(message)) {}

const Value* Namespace::find(std::string_view name) const {
  for (const auto& [key, value] : attributes_) {
    if (key == name) return &value;
  }
  return nullptr;
}

void Namespace::set(std::string_view name, Value value) {
  for (auto& [key, old] : attributes_) {
    if (key == name) {
      old = std::move(value);
      return;
    }
  }
  grow(sizeof(attributes_[0]) + name.size());
  attributes_.emplace_back(std::string(name), std::move(value));
}

Value make_text(Budget* budget, std::string text, bool is_safe) {
  if (budget != nullptr) {
    budget->check_text(text.size());
    budget->step_bytes(text.size());
  }
  return make<Text>(Type::kString, budget, std::move(text), is_safe);
}

Value make_list(Budget* budget, std::vector<Value> items) {
  return make<Sequence>(Type::kList, budget, std::move(items));
}

Value make_tuple(Budget* budget, std::vector<Value> items) {
  return make<Sequence>(Type::kTuple, budget, std::move(items));
}

Value make_undefined(Budget* budget, std::string message) {
  return make<Undefined>(Type::kUndefined, budget, std::move(message));
}

const char* type_name(const Value& value) {
  switch (value.type()) {
    case Type::kMissing:
    case Type::kUndefined:
      return "Undefined";
    case Type::kNone:
      return "NoneType";
    case Type::kBool:
      return "bool";
    case Type::kInt:
      return "int";
    case Type::kFloat:
      return "float";
    case Type::kString:
      return value.text().is_safe() ? "Markup" : "str";
    case Type::kList:
      return "list";
    case Type::kTuple:
      return "tuple";
    case Type::kDict:
      return "dict";
    case Type::kRange:
      return "range";
    case Type::kView:
      switch (value.sequence().view()) {
        case Sequence::ViewKind::kKeys:
          return "dict_keys";
        case Sequence::ViewKind::kValues:
          return "dict_values";
        default:
          return "dict_items";
      }
    case Type::kIterator:
      return value.iterator().name();
    case Type::kNamespace:
      return "TemplateNamespace";
    case Type::kLoop:
      return "LoopContext";
    case Type::kMacro:
      return "Macro";
    case Type::kCallable:
      return "function";
  }
  return "object";
}

bool is_true(const Value& value) {
  switch (value.type()) {
    case Type::kMissing:
    case Type::kUndefined:
    case Type::kNone:
      return false;
    case Type::kFloat:
      return value.as_double() != 0.0;
    default:
      if (value.is_integral()) return value.as_int() != 0;
      return length_of(value).value_or(1) != 0;
  }
}

bool is_hashable(const Value& value) {
  switch (value.type()) {
    case Type::kList:
    case Type::kDict:
    case Type::kView:
      return false;
    case Type::kTuple:
      for (const Value& item : value.items()) {
        if (!is_hashable(item)) return false;
      }
      return true;
    default:
      return true;
  }
}

bool equals(Budget& budget, const Value& a, const Value& b) {
  budget.step();
  if (a.is_number() && b.is_number()) return equal_ints_and_floats(a, b);
  if (a.type() != b.type()) return false;
  switch (a.type()) {
    case Type::kMissing:
    case Type::kUndefined:
    case Type::kNone:
      return true;
    case Type::kString:
      budget.step(a.view().size() / 256);
      return a.view() == b.view();
    case Type::kList:
    case Type::kTuple:
      return equal_items(budget, a.items(), b.items());
    case Type::kDict:
      return equal_dicts(budget, a.dict(), b.dict());
    case Type::kRange: {
      const Range& x = a.range();
      const Range& y = b.range();
      if (x.length != y.length) return false;
      return x.length == 0 || (x.start == y.start && (x.length == 1 || x.step == y.step));
    }
    case Type::kView:
      // Keys and items compare as sets, values only by identity.
      if (a.sequence().view() != b.sequence().view()) return false;
      if (a.sequence().view() == Sequence::ViewKind::kValues) return a.heap() == b.heap();
      return equal_items(budget, a.items(), b.items());
    default:
      return a.heap() == b.heap();
  }
}

std::optional<bool> less(Budget& budget, const Value& a, const Value& b) {
  budget.step();
  if (a.is_number() && b.is_number()) {
    if (a.is_integral() && b.is_integral()) return a.as_int() < b.as_int();
    return a.as_double() < b.as_double();
  }
  if (a.type() != b.type()) return std::nullopt;
  if (a.is_string()) return a.view() < b.view();
  if (!a.is_sequence()) return std::nullopt;
  const std::vector<Value>& x = a.items();
  const std::vector<Value>& y = b.items();
  for (size_t i = 0; i < std::min(x.size(), y.size()); ++i) {
    if (!equals(budget, x[i], y[i])) return less(budget, x[i], y[i]);
  }
  return x.size() < y.size();
}

bool is_same(const Value& a, const Value& b) {
  if (a.type() != b.type()) return false;
  if (a.heap() != nullptr) return a.heap() == b.heap() || (a.is_string() && a.view() == b.view());
  if (a.is(Type::kFloat)) return a.as_double() == b.as_double();
  return a.as_int() == b.as_int();
}

std::optional<int64_t> length_of(const Value& value) {
  switch (value.type()) {
    case Type::kUndefined:
      return 0;
    case Type::kString:
      return static_cast<int64_t>(value.text().length());
    case Type::kList:
    case Type::kTuple:
    case Type::kView:
      return static_cast<int64_t>(value.items().size());
    case Type::kDict:
      return static_cast<int64_t>(value.dict().size());
    case Type::kRange:
      return value.range().length;
    case Type::kLoop:
      return value.loop().length();
    default:
      return std::nullopt;
  }
}

}  // namespace mobilellm::jinja
