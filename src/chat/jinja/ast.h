/// Syntax tree of a template.
#pragma once

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "chat/jinja/value.h"

namespace mobilellm::jinja {

using Filter = Value (*)(Runtime& runtime, const Value& value, Args& args);
using Test = bool (*)(Runtime& runtime, const Value& value, Args& args);

enum class ExprKind : uint8_t {
  kConstant,
  kName,
  kList,
  kTuple,
  kDict,       ///< children: key, value, key, value, ...
  kAttribute,  ///< child 0 . name
  kItem,       ///< child 0 [ child 1 ]
  kSlice,      ///< children: start, stop, step; null where absent. Only below kItem.
  kCall,       ///< child 0 called
  kFilter,     ///< child 0 (null in filter blocks) | name
  kTest,       ///< child 0 is name
  kNot,
  kNegative,
  kPositive,
  kAnd,
  kOr,
  kConditional,  ///< children: test, value, other (null when absent)
  kConcat,
  kAdd,
  kSubtract,
  kMultiply,
  kDivide,
  kFloorDivide,
  kModulo,
  kPower,
  kCompare,  ///< children: operands; `operators` between them
};

enum class CompareOp : uint8_t { kEqual, kNotEqual, kLess, kLessEqual, kGreater, kGreaterEqual, kIn, kNotIn };

struct Expr;
using ExprPtr = std::unique_ptr<Expr>;

/// Arguments as written: f(positional, name=named, *rest, **named_rest).
struct CallArgs {
  std::vector<ExprPtr> positional;
  std::vector<std::pair<std::string, ExprPtr>> named;
  ExprPtr rest;
  ExprPtr named_rest;
};

struct Expr {
  ExprKind kind;
  int line;
  int height = 1;  ///< Levels below and including this node; bounded by the parser.
  Value constant;
  std::string name;
  std::vector<ExprPtr> children;
  std::vector<CompareOp> operators;
  std::unique_ptr<CallArgs> args;
  Filter filter = nullptr;  ///< Null when there is no filter of that name: an error when reached.
  Test test = nullptr;
};

enum class StatementKind : uint8_t {
  kText,
  kPrint,
  kIf,  ///< tests[i] goes with bodies[i]; one body more is the else part
  kFor,
  kSet,
  kSetBlock,
  kWith,
  kMacro,
  kCallBlock,
  kFilterBlock,
  kScope,  ///< A body with variables of its own: generation, autoescape
  kBlock,
  kBreak,
  kContinue,
  kInclude,  ///< include, import, from, extends: always an error when reached
};

struct Statement;
using Body = std::vector<std::unique_ptr<Statement>>;

/// Where an assignment goes.
struct Target {
  enum class Kind : uint8_t { kName, kAttribute, kTuple };
  Kind kind = Kind::kName;
  int line = 1;
  std::string name;
  std::string attribute;  ///< Of a namespace.
  std::vector<Target> parts;
};

/// Parameters and special names of a macro or call block.
struct Signature {
  std::string name;  ///< "caller" for call blocks.
  std::vector<std::string> parameters;
  std::vector<ExprPtr> defaults;  ///< Of the last parameters.
  bool uses_varargs = false;
  bool uses_kwargs = false;
  bool uses_caller = false;
};

struct Statement {
  StatementKind kind;
  int line;
  std::string text;            ///< Data, block name or tag.
  std::vector<ExprPtr> exprs;  ///< Printed, assigned, iterated, tested or called expressions.
  std::vector<Target> targets;
  std::vector<Body> bodies;
  ExprPtr condition;  ///< Filter of a for loop.
  std::unique_ptr<Signature> signature;
  bool is_recursive = false;
  bool uses_loop = false;
  bool is_scoped = false;
  bool is_required = false;
};

/// A parsed template; immutable.
struct Template {
  std::string origin;
  Body body;
  std::set<std::string, std::less<>> names;  ///< Every variable name that is read.
};

}  // namespace mobilellm::jinja
