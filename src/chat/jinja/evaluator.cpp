// Walks the syntax tree: statements, scopes, loops, macros and expressions.
#include "chat/jinja/builtins.h"
#include "chat/jinja/loop.h"
#include "chat/jinja/runtime.h"

namespace mobilellm::jinja {

// One more level of evaluation.
class Runtime::Deeper {
 public:
  explicit Deeper(Runtime& runtime) : runtime_(runtime) {
    if (++runtime_.depth_ > kMaxEvalDepth) Budget::fail_limit("recursion too deep");
  }
  ~Deeper() { --runtime_.depth_; }
  Deeper(const Deeper&) = delete;
  Deeper& operator=(const Deeper&) = delete;

 private:
  Runtime& runtime_;
};

// A frame of variables for the life of a body.
class Runtime::Scope {
 public:
  explicit Scope(Runtime& runtime) : Scope(runtime, runtime.frame_) {}
  Scope(Runtime& runtime, Frame* parent) : runtime_(runtime), outer_(runtime.frame_) {
    runtime_.frame_ = runtime_.new_frame(parent);
  }
  ~Scope() {
    runtime_.release_frame(runtime_.frame_);
    runtime_.frame_ = outer_;
  }
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;

 private:
  Runtime& runtime_;
  Frame* outer_;
};

Frame* Runtime::new_frame(Frame* parent) {
  Frame* frame = nullptr;
  if (free_frames_.empty()) {
    budget_.charge(sizeof(Frame) + 64);
    frame = &frames_.emplace_back();
  } else {
    frame = free_frames_.back();
    free_frames_.pop_back();
  }
  frame->parent = parent;
  return frame;
}

void Runtime::release_frame(Frame* frame) {
  if (frame->is_captured) return;
  frame->variables.clear();
  free_frames_.push_back(frame);
}

Value Runtime::make_macro(const Signature& signature, const Body& body) {
  for (Frame* frame = frame_; frame != nullptr && !frame->is_captured; frame = frame->parent) {
    frame->is_captured = true;
  }
  return make<Macro>(Type::kMacro, &budget_, &signature, &body, frame_);
}

std::string Runtime::render() {
  std::string out;
  out_ = &out;
  top_ = new_frame(&context_);
  frame_ = top_;
  try {
    exec(program_.body);
  } catch (const LimitExceeded& error) {
    fail(error.code(), "[template] {}:{}: {} while rendering", program_.origin, line_, error.bound());
  }
  return out;
}

void Runtime::write(std::string_view text) {
  budget_.step_bytes(text.size());
  budget_.check_text(out_->size() + n_captured_bytes_ + text.size());
  out_->append(text);
}

void Runtime::write_value(const Value& value) {
  std::string storage;
  write(to_view(value, storage));
}

// The results of filter and call blocks are not converted: they must be text.
void Runtime::write_text_value(const Value& value) {
  if (!value.is_string()) raise("expected str instance, {} found", type_name(value));
  write(value.view());
}

std::string Runtime::capture(const Body& body, Flow* flow) {
  struct Restore {
    Runtime& runtime;
    std::string* out;
    size_t n_bytes;
    ~Restore() {
      runtime.out_ = out;
      runtime.n_captured_bytes_ = n_bytes;
    }
  };
  const Restore restore{*this, out_, n_captured_bytes_};
  std::string buffer;
  n_captured_bytes_ += out_->size();
  out_ = &buffer;
  const Flow result = exec(body);
  if (flow != nullptr) *flow = result;
  return buffer;
}

// ---- Statements ----

Runtime::Flow Runtime::exec(const Body& body) {
  for (const auto& statement : body) {
    const Flow flow = exec(*statement);
    if (flow != Flow::kNormal) return flow;
  }
  return Flow::kNormal;
}

Runtime::Flow Runtime::exec(const Statement& statement) {
  budget_.step();
  const Deeper deeper(*this);
  line_ = statement.line;
  switch (statement.kind) {
    case StatementKind::kText:
      write(statement.text);
      break;
    case StatementKind::kPrint:
      for (const ExprPtr& expr : statement.exprs) write_value(eval(*expr));
      break;
    case StatementKind::kIf:
      return exec_if(statement);
    case StatementKind::kFor:
      return exec_for(statement);
    case StatementKind::kSet:
      assign(statement.targets[0], eval(*statement.exprs[0]));
      break;
    case StatementKind::kSetBlock:
      return exec_set_block(statement);
    case StatementKind::kWith:
      return exec_with(statement);
    case StatementKind::kMacro:
      frame_->set(statement.signature->name, make_macro(*statement.signature, statement.bodies[0]));
      break;
    case StatementKind::kCallBlock:
      exec_call_block(statement);
      break;
    case StatementKind::kFilterBlock:
      return exec_filter_block(statement);
    case StatementKind::kScope: {
      for (const ExprPtr& expr : statement.exprs) eval(*expr);
      const Scope scope(*this);
      return exec(statement.bodies[0]);
    }
    case StatementKind::kBlock:
      exec_block(statement);
      break;
    case StatementKind::kBreak:
      return Flow::kBreak;
    case StatementKind::kContinue:
      return Flow::kContinue;
    case StatementKind::kInclude:
      raise("no loader for this environment specified");
  }
  return Flow::kNormal;
}

Runtime::Flow Runtime::exec_if(const Statement& statement) {
  for (size_t i = 0; i < statement.exprs.size(); ++i) {
    if (is_true(eval(*statement.exprs[i]))) return exec(statement.bodies[i]);
  }
  return statement.bodies.size() > statement.exprs.size() ? exec(statement.bodies.back()) : Flow::kNormal;
}

Runtime::Flow Runtime::exec_for(const Statement& statement) {
  return run_loop(statement, eval(*statement.exprs[0]), 0);
}

// Runs a loop; never gives out break or continue of its own body.
Runtime::Flow Runtime::run_loop(const Statement& statement, const Value& iterable, int64_t depth0) {
  std::vector<Value> items = elements(iterable);
  if (statement.condition) {
    std::vector<Value> kept;
    for (Value& item : items) {
      const Scope scope(*this);
      assign(statement.targets[0], item);
      if (!is_true(eval(*statement.condition))) continue;
      // Behind a condition, items that are unpacked have become tuples.
      kept.push_back(statement.targets[0].kind == Target::Kind::kTuple ? repack(statement.targets[0])
                                                                       : std::move(item));
    }
    items = std::move(kept);
  }
  // As Jinja compiles it, the else part also runs when break or continue cut short every iteration.
  if (run_iterations(statement, std::move(items), depth0) || statement.bodies.size() < 2) return Flow::kNormal;
  const Scope scope(*this);
  return exec(statement.bodies[1]);
}

// The value that an unpacking target holds, as a tuple.
Value Runtime::repack(const Target& target) {
  if (target.kind != Target::Kind::kTuple) return *frame_->find(target.name);
  std::vector<Value> parts;
  for (const Target& part : target.parts) parts.push_back(repack(part));
  return tuple(std::move(parts));
}

// Returns whether any iteration reached the end of the body.
bool Runtime::run_iterations(const Statement& statement, std::vector<Value> items, int64_t depth0) {
  if (items.empty()) return false;
  bool is_completed = false;
  const Value holder = make<Loop>(Type::kLoop, &budget_, std::move(items), depth0);
  struct Close {
    Loop& loop;
    ~Close() { loop.close(); }
  };
  Loop& loop = holder.loop();
  const Close close{loop};
  if (statement.is_recursive) {
    loop.statement = &statement;
    loop.frame = frame_;
  }
  for (int64_t i = 0; i < loop.n_items; ++i) {
    budget_.step();
    loop.index0 = i;
    const Scope scope(*this);
    if (statement.uses_loop) frame_->set("loop", holder);
    assign(statement.targets[0], loop.items[static_cast<size_t>(i)]);
    const Flow flow = exec(statement.bodies[0]);
    if (flow == Flow::kNormal) is_completed = true;
    if (flow == Flow::kBreak) break;
  }
  return is_completed;
}

Value Runtime::call_loop(Loop& loop, Args& args) {
  if (loop.statement == nullptr) raise("The loop must have the 'recursive' marker to be called recursively.");
  if (args.positional.size() != 1 || !args.named.empty()) raise("loop() takes exactly one argument");
  const Deeper deeper(*this);
  struct Restore {
    Runtime& runtime;
    std::string* out;
    size_t n_bytes;
    Frame* frame;
    ~Restore() {
      runtime.out_ = out;
      runtime.n_captured_bytes_ = n_bytes;
      runtime.frame_ = frame;
    }
  };
  const Restore restore{*this, out_, n_captured_bytes_, frame_};
  std::string buffer;
  n_captured_bytes_ += out_->size();
  out_ = &buffer;
  frame_ = loop.frame;
  run_loop(*loop.statement, args.positional[0], loop.depth0 + 1);
  return text(std::move(buffer));
}

Runtime::Flow Runtime::exec_set_block(const Statement& statement) {
  Flow flow = Flow::kNormal;
  std::string buffer;
  {
    const Scope scope(*this);
    buffer = capture(statement.bodies[0], &flow);
  }
  if (flow != Flow::kNormal) return flow;
  Value value = text(std::move(buffer));
  if (statement.exprs[0]) value = eval_filter(*statement.exprs[0], value);
  assign(statement.targets[0], value);
  return Flow::kNormal;
}

Runtime::Flow Runtime::exec_filter_block(const Statement& statement) {
  Flow flow = Flow::kNormal;
  std::string buffer;
  {
    const Scope scope(*this);
    buffer = capture(statement.bodies[0], &flow);
  }
  if (flow != Flow::kNormal) return flow;
  write_text_value(eval_filter(*statement.exprs[0], text(std::move(buffer))));
  return Flow::kNormal;
}

Runtime::Flow Runtime::exec_with(const Statement& statement) {
  std::vector<Value> values;
  for (const ExprPtr& expr : statement.exprs) values.push_back(eval(*expr));
  const Scope scope(*this);
  for (size_t i = 0; i < values.size(); ++i) assign(statement.targets[i], values[i]);
  return exec(statement.bodies[0]);
}

void Runtime::exec_call_block(const Statement& statement) {
  const Expr& expr = *statement.exprs[0];
  const Value function = eval(*expr.children[0]);
  Args args = eval_args(expr.args.get());
  args.named.emplace_back("caller", make_macro(*statement.signature, statement.bodies[0]));
  write_text_value(call(function, args));
}

void Runtime::exec_block(const Statement& statement) {
  if (statement.is_required) raise("Required block '{}' not found", statement.text);
  // A block sees the variables of the top level only, unless it is scoped.
  const Scope scope(*this, statement.is_scoped ? frame_ : top_);
  exec(statement.bodies[0]);
}

void Runtime::assign(const Target& target, const Value& value) {
  switch (target.kind) {
    case Target::Kind::kName:
      if (value.is_missing()) return;
      frame_->set(target.name, value);
      return;
    case Target::Kind::kAttribute: {
      const Value object = lookup(target.name);
      if (!object.is(Type::kNamespace)) raise("cannot assign attribute on non-namespace object");
      if (target.attribute.starts_with('_')) {
        raise(
            "Chat templates cannot store underscore-prefixed attributes on a namespace, but got '{}'. Please rename "
            "the attribute.",
            target.attribute);
      }
      object.name_space().set(target.attribute, value);
      return;
    }
    case Target::Kind::kTuple: {
      if (value.is_undefined()) raise("not enough values to unpack (expected {}, got 0)", target.parts.size());
      std::vector<Value> values = elements(value);
      if (values.size() < target.parts.size()) {
        raise("not enough values to unpack (expected {}, got {})", target.parts.size(), values.size());
      }
      if (values.size() > target.parts.size()) raise("too many values to unpack (expected {})", target.parts.size());
      for (size_t i = 0; i < values.size(); ++i) assign(target.parts[i], values[i]);
      return;
    }
  }
}

// ---- Calls ----

Args Runtime::eval_args(const CallArgs* args) {
  Args result;
  if (args == nullptr) return result;
  result.positional.reserve(args->positional.size());
  for (const ExprPtr& expr : args->positional) result.positional.push_back(eval(*expr));
  if (args->rest) {
    for (Value& value : elements(eval(*args->rest))) result.positional.push_back(std::move(value));
  }
  for (const auto& [name, expr] : args->named) result.named.emplace_back(name, eval(*expr));
  if (args->named_rest) {
    const Value rest = eval(*args->named_rest);
    if (!rest.is(Type::kDict)) raise("argument after ** must be a mapping, not {}", type_name(rest));
    for (const auto& [key, value] : rest.dict().entries()) {
      if (!key.is_string()) raise("keywords must be strings");
      for (const auto& [other, unused] : result.named) {
        if (other == key.view()) raise("got multiple values for keyword argument '{}'", other);
      }
      result.named.emplace_back(std::string(key.view()), value);
    }
  }
  return result;
}

Value Runtime::call(const Value& function, Args& args) {
  switch (function.type()) {
    case Type::kMacro:
      return call_macro(function.macro(), args);
    case Type::kLoop:
      return call_loop(function.loop(), args);
    case Type::kCallable:
      return function.callable().call(*this, args);
    case Type::kUndefined:
      raise_undefined(function);
    default:
      raise("'{}' object is not callable", type_name(function));
  }
}

Value Runtime::call_macro(const Macro& macro, Args& args) {
  const Deeper deeper(*this);
  const Signature& signature = macro.signature();
  const size_t n_parameters = signature.parameters.size();
  const int line = line_;
  // Takes a keyword argument out of the list.
  const auto take_named = [&](std::string_view name) {
    for (auto it = args.named.begin(); it != args.named.end(); ++it) {
      if (it->first != name) continue;
      Value value = std::move(it->second);
      args.named.erase(it);
      return value;
    }
    return Value();
  };
  std::vector<Value> values(n_parameters);
  bool takes_caller = false;
  for (size_t i = 0; i < n_parameters; ++i) {
    if (signature.parameters[i] == "caller") takes_caller = true;
    values[i] = i < args.positional.size() ? args.positional[i] : take_named(signature.parameters[i]);
  }
  const Scope scope(*this, macro.frame());
  if (signature.uses_caller && !takes_caller) {
    Value caller = take_named("caller");
    frame_->set("caller", caller.is_missing() || caller.is_none() ? undefined("No caller defined") : caller);
  }
  if (signature.uses_kwargs) {
    const Value kwargs = make<Dict>(Type::kDict, &budget_);
    Dict& dict = const_cast<Dict&>(kwargs.dict());
    for (auto& [name, value] : args.named) dict.set(text(name), value);
    frame_->set("kwargs", kwargs);
  } else if (!args.named.empty()) {
    raise("macro '{}' takes no keyword argument '{}'", signature.name, args.named[0].first);
  }
  const size_t n_positional = args.positional.size();
  if (signature.uses_varargs) {
    std::vector<Value> rest;
    for (size_t i = n_parameters; i < n_positional; ++i) rest.push_back(args.positional[i]);
    frame_->set("varargs", tuple(std::move(rest)));
  } else if (n_positional > n_parameters) {
    raise("macro '{}' takes not more than {} argument(s)", signature.name, n_parameters);
  }
  const size_t n_required = n_parameters - signature.defaults.size();
  for (size_t i = 0; i < n_parameters; ++i) {
    if (values[i].is_missing()) {
      values[i] = i >= n_required ? eval(*signature.defaults[i - n_required])
                                  : undefined(fmt::format("parameter '{}' was not provided", signature.parameters[i]));
    }
    frame_->set(signature.parameters[i], std::move(values[i]));
  }
  Value result = text(capture(macro.body(), nullptr));
  line_ = line;
  return result;
}

// ---- Expressions ----

Value Runtime::lookup(std::string_view name) {
  for (const Frame* frame = frame_; frame != nullptr; frame = frame->parent) {
    if (const Value* value = frame->find(name)) return *value;
  }
  Value global = find_global(*this, name);
  return global.is_missing() ? undefined(fmt::format("'{}' is undefined", name)) : global;
}

Value Runtime::eval(const Expr& expr) {
  budget_.step();
  const Deeper deeper(*this);
  line_ = expr.line;
  switch (expr.kind) {
    case ExprKind::kConstant:
      return expr.constant;
    case ExprKind::kName:
      return lookup(expr.name);
    case ExprKind::kList:
    case ExprKind::kTuple: {
      std::vector<Value> items;
      items.reserve(expr.children.size());
      for (const ExprPtr& child : expr.children) items.push_back(eval(*child));
      return expr.kind == ExprKind::kList ? list(std::move(items)) : tuple(std::move(items));
    }
    case ExprKind::kDict: {
      Value result = make<Dict>(Type::kDict, &budget_);
      Dict& dict = const_cast<Dict&>(result.dict());
      for (size_t i = 0; i < expr.children.size(); i += 2) {
        const Value key = eval(*expr.children[i]);
        if (!is_hashable(key)) raise("unhashable type: '{}'", type_name(key));
        dict.set(key, eval(*expr.children[i + 1]));
      }
      return result;
    }
    case ExprKind::kAttribute:
      return attribute(eval(*expr.children[0]), expr.name);
    case ExprKind::kItem: {
      const Value object = eval(*expr.children[0]);
      const Expr& key = *expr.children[1];
      if (key.kind != ExprKind::kSlice) return item(object, eval(key));
      Value parts[3];
      for (size_t i = 0; i < 3; ++i) parts[i] = key.children[i] ? eval(*key.children[i]) : Value::none();
      return slice(object, parts[0], parts[1], parts[2]);
    }
    case ExprKind::kSlice:
      break;
    case ExprKind::kCall:
      return eval_call(expr);
    case ExprKind::kFilter:
      return eval_filter(expr, eval(*expr.children[0]));
    case ExprKind::kTest: {
      const Value value = eval(*expr.children[0]);
      if (expr.test == nullptr) raise("No test named '{}' found.", expr.name);
      Args args = eval_args(expr.args.get());
      line_ = expr.line;
      return Value(expr.test(*this, value, args));
    }
    case ExprKind::kNot:
      return Value(!is_true(eval(*expr.children[0])));
    case ExprKind::kNegative:
      return negative(eval(*expr.children[0]));
    case ExprKind::kPositive: {
      const Value value = eval(*expr.children[0]);
      if (value.is_undefined()) raise_undefined(value);
      if (!value.is_number()) raise("bad operand type for unary +: '{}'", type_name(value));
      return value.is(Type::kBool) ? Value(value.as_int()) : value;
    }
    case ExprKind::kAnd: {
      Value left = eval(*expr.children[0]);
      return is_true(left) ? eval(*expr.children[1]) : left;
    }
    case ExprKind::kOr: {
      Value left = eval(*expr.children[0]);
      return is_true(left) ? left : eval(*expr.children[1]);
    }
    case ExprKind::kConditional:
      if (is_true(eval(*expr.children[0]))) return eval(*expr.children[1]);
      if (expr.children[2]) return eval(*expr.children[2]);
      return undefined("the inline if-expression evaluated to false and no else section was defined.");
    case ExprKind::kConcat:
      return eval_concat(expr);
    case ExprKind::kCompare:
      return Value(eval_compare(expr));
    default: {
      const Value left = eval(*expr.children[0]);
      const Value right = eval(*expr.children[1]);
      line_ = expr.line;
      return binary(expr.kind, left, right);
    }
  }
  raise("internal: a slice outside a subscript");
}

Value Runtime::eval_call(const Expr& expr) {
  const Expr& callee = *expr.children[0];
  if (callee.kind == ExprKind::kAttribute) {
    // A method is called without making a bound method first.
    const Value object = eval(*callee.children[0]);
    if (const Callable::Function method = find_method(object, callee.name)) {
      Args args = eval_args(expr.args.get());
      line_ = expr.line;
      return method(*this, object, args);
    }
    const Value function = attribute(object, callee.name);
    Args args = eval_args(expr.args.get());
    line_ = expr.line;
    return call(function, args);
  }
  const Value function = eval(callee);
  Args args = eval_args(expr.args.get());
  line_ = expr.line;
  return call(function, args);
}

// `value` goes through a filter, or in filter blocks through the chain that ends in it.
Value Runtime::eval_filter(const Expr& expr, const Value& value) {
  const Deeper deeper(*this);
  // In a filter block the innermost filter has no operand of its own.
  const bool is_chain = expr.children[0] && expr.children[0]->kind == ExprKind::kFilter;
  bool has_open_end = false;
  for (const Expr* at = &expr; at->kind == ExprKind::kFilter; at = at->children[0].get()) {
    if (!at->children[0]) {
      has_open_end = true;
      break;
    }
  }
  const Value input = is_chain && has_open_end ? eval_filter(*expr.children[0], value) : value;
  if (expr.filter == nullptr) raise("No filter named '{}' found.", expr.name);
  Args args = eval_args(expr.args.get());
  line_ = expr.line;
  return expr.filter(*this, input, args);
}

Value Runtime::eval_concat(const Expr& expr) {
  std::string result;
  std::string storage;
  for (const ExprPtr& child : expr.children) {
    const Value value = eval(*child);
    const std::string_view part = to_view(value, storage);
    budget_.check_text(result.size() + part.size());
    budget_.step_bytes(part.size());
    result.append(part);
  }
  return text(std::move(result));
}

bool Runtime::eval_compare(const Expr& expr) {
  Value left = eval(*expr.children[0]);
  for (size_t i = 0; i < expr.operators.size(); ++i) {
    Value right = eval(*expr.children[i + 1]);
    line_ = expr.line;
    if (!compare(expr.operators[i], left, right)) return false;
    left = std::move(right);
  }
  return true;
}

}  // namespace mobilellm::jinja
