// Expressions, with the grammar and precedences of Jinja 3.1.
#include "chat/jinja/expression_parser.h"

#include <array>

#include "chat/jinja/builtins.h"

namespace mobilellm::jinja {

ExprPtr ExpressionParser::parse_expression(bool with_conditional) {
  const Nested nested(*this);
  return with_conditional ? parse_conditional() : parse_or();
}

ExprPtr ExpressionParser::parse_conditional() {
  int line = current().line;
  const size_t first_missing = missing_.size();
  ExprPtr value = parse_or();
  while (skip_name("if")) {
    ExprPtr conditional = node(ExprKind::kConditional, line);
    // What stands in a conditional expression may name filters that do not exist.
    if (missing_.size() > first_missing) missing_.resize(first_missing);
    ++n_soft_;
    add_child(*conditional, parse_or());
    add_child(*conditional, std::move(value));
    if (skip_name("else")) {
      const Nested nested(*this);
      add_child(*conditional, parse_conditional());
    } else {
      conditional->children.push_back(nullptr);
    }
    --n_soft_;
    value = std::move(conditional);
    line = current().line;
  }
  return value;
}

ExprPtr ExpressionParser::parse_or() {
  const int line = current().line;
  ExprPtr left = parse_and();
  while (skip_name("or")) left = binary(ExprKind::kOr, line, std::move(left), parse_and());
  return left;
}

ExprPtr ExpressionParser::parse_and() {
  const int line = current().line;
  ExprPtr left = parse_not();
  while (skip_name("and")) left = binary(ExprKind::kAnd, line, std::move(left), parse_not());
  return left;
}

ExprPtr ExpressionParser::parse_not() {
  if (is_name("not")) {
    const Nested nested(*this);
    const int line = next().line;
    return unary(ExprKind::kNot, line, parse_not());
  }
  return parse_compare();
}

bool ExpressionParser::read_compare_operator(CompareOp& op) {
  static constexpr std::array<std::pair<std::string_view, CompareOp>, 6> kOperators = {{
      {"==", CompareOp::kEqual},
      {"!=", CompareOp::kNotEqual},
      {"<", CompareOp::kLess},
      {"<=", CompareOp::kLessEqual},
      {">", CompareOp::kGreater},
      {">=", CompareOp::kGreaterEqual},
  }};
  for (const auto& [text, value] : kOperators) {
    if (skip_op(text)) {
      op = value;
      return true;
    }
  }
  if (skip_name("in")) {
    op = CompareOp::kIn;
    return true;
  }
  if (is_name("not") && is_next_name("in")) {
    next();
    next();
    op = CompareOp::kNotIn;
    return true;
  }
  return false;
}

ExprPtr ExpressionParser::parse_compare() {
  const int line = current().line;
  ExprPtr first = parse_sum();
  CompareOp op{};
  if (!read_compare_operator(op)) return first;
  ExprPtr compare = unary(ExprKind::kCompare, line, std::move(first));
  do {
    compare->operators.push_back(op);
    add_child(*compare, parse_sum());
  } while (read_compare_operator(op));
  return compare;
}

ExprPtr ExpressionParser::parse_sum() {
  const int line = current().line;
  ExprPtr left = parse_concat();
  while (is_op("+") || is_op("-")) {
    const ExprKind kind = next().text == "+" ? ExprKind::kAdd : ExprKind::kSubtract;
    left = binary(kind, line, std::move(left), parse_concat());
  }
  return left;
}

ExprPtr ExpressionParser::parse_concat() {
  const int line = current().line;
  ExprPtr first = parse_product();
  if (!is_op("~")) return first;
  ExprPtr concat = unary(ExprKind::kConcat, line, std::move(first));
  while (skip_op("~")) add_child(*concat, parse_product());
  return concat;
}

ExprPtr ExpressionParser::parse_product() {
  static constexpr std::array<std::pair<std::string_view, ExprKind>, 4> kOperators = {{
      {"*", ExprKind::kMultiply},
      {"/", ExprKind::kDivide},
      {"//", ExprKind::kFloorDivide},
      {"%", ExprKind::kModulo},
  }};
  const int line = current().line;
  ExprPtr left = parse_power();
  for (bool is_found = true; is_found;) {
    is_found = false;
    for (const auto& [text, kind] : kOperators) {
      if (!skip_op(text)) continue;
      left = binary(kind, line, std::move(left), parse_power());
      is_found = true;
      break;
    }
  }
  return left;
}

ExprPtr ExpressionParser::parse_power() {
  const int line = current().line;
  ExprPtr left = parse_unary(true);
  while (skip_op("**")) left = binary(ExprKind::kPower, line, std::move(left), parse_unary(true));
  return left;
}

ExprPtr ExpressionParser::parse_unary(bool with_filter) {
  const int line = current().line;
  ExprPtr result;
  if (is_op("-") || is_op("+")) {
    const Nested nested(*this);
    const ExprKind kind = next().text == "-" ? ExprKind::kNegative : ExprKind::kPositive;
    result = unary(kind, line, parse_unary(false));
  } else {
    result = parse_primary();
  }
  result = parse_postfix(std::move(result));
  return with_filter ? parse_filter_expression(std::move(result)) : std::move(result);
}

ExprPtr ExpressionParser::parse_primary() {
  const Token& token = current();
  const int line = token.line;
  switch (token.kind) {
    case TokenKind::kName: {
      next();
      if (token.text == "true" || token.text == "True") return constant(Value(true), line);
      if (token.text == "false" || token.text == "False") return constant(Value(false), line);
      if (token.text == "none" || token.text == "None") return constant(Value::none(), line);
      ExprPtr name = node(ExprKind::kName, line);
      name->name = token.text;
      names_.insert(token.text);
      if (token.text == "loop") ++n_loop_uses_;
      if (token.text == "varargs") ++n_varargs_uses_;
      if (token.text == "kwargs") ++n_kwargs_uses_;
      if (token.text == "caller") ++n_caller_uses_;
      return name;
    }
    case TokenKind::kString: {
      std::string text = next().text;
      while (is(TokenKind::kString)) text += next().text;
      return constant(make_text(nullptr, std::move(text)), line);
    }
    case TokenKind::kInteger:
      return constant(Value(next().integer), line);
    case TokenKind::kFloat:
      return constant(Value(next().number), line);
    default:
      break;
  }
  if (skip_op("(")) {
    ExprPtr tuple = parse_tuple(true, {}, true);
    expect_op(")");
    return tuple;
  }
  if (is_op("[")) return parse_list();
  if (is_op("{")) return parse_dict();
  if (token.kind == TokenKind::kEnd) fail_here("unexpected end of template");
  fail_here(fmt::format("unexpected '{}'", describe(token)));
}

bool ExpressionParser::is_tuple_end(std::string_view end_name) const {
  return is(TokenKind::kVariableEnd) || is(TokenKind::kBlockEnd) || is_op(")") ||
         (!end_name.empty() && is_name(end_name));
}

ExprPtr ExpressionParser::parse_tuple(bool with_conditional, std::string_view end_name, bool is_parenthesized) {
  const int line = current().line;
  std::vector<ExprPtr> items;
  bool is_tuple = false;
  while (true) {
    if (!items.empty()) expect_op(",");
    if (is_tuple_end(end_name)) break;
    items.push_back(parse_expression(with_conditional));
    if (!is_op(",")) break;
    is_tuple = true;
  }
  if (!is_tuple) {
    if (!items.empty()) return std::move(items[0]);
    if (!is_parenthesized) fail_here(fmt::format("Expected an expression, got '{}'", describe(current())));
  }
  ExprPtr tuple = node(ExprKind::kTuple, line);
  for (ExprPtr& item : items) add_child(*tuple, std::move(item));
  return tuple;
}

ExprPtr ExpressionParser::parse_list() {
  ExprPtr list = node(ExprKind::kList, next().line);
  while (!is_op("]")) {
    if (!list->children.empty()) expect_op(",");
    if (is_op("]")) break;
    add_child(*list, parse_expression());
  }
  expect_op("]");
  return list;
}

ExprPtr ExpressionParser::parse_dict() {
  ExprPtr dict = node(ExprKind::kDict, next().line);
  while (!is_op("}")) {
    if (!dict->children.empty()) expect_op(",");
    if (is_op("}")) break;
    add_child(*dict, parse_expression());
    expect_op(":");
    add_child(*dict, parse_expression());
  }
  expect_op("}");
  return dict;
}

ExprPtr ExpressionParser::parse_postfix(ExprPtr expr) {
  while (true) {
    if (is_op(".") || is_op("[")) {
      expr = parse_subscript(std::move(expr));
    } else if (is_op("(")) {
      expr = parse_call(std::move(expr));
    } else {
      return expr;
    }
  }
}

ExprPtr ExpressionParser::parse_filter_expression(ExprPtr expr) {
  while (true) {
    if (is_op("|")) {
      expr = parse_filters(std::move(expr), false);
    } else if (is_name("is")) {
      expr = parse_test(std::move(expr));
    } else if (is_op("(")) {
      expr = parse_call(std::move(expr));
    } else {
      return expr;
    }
  }
}

ExprPtr ExpressionParser::parse_subscript(ExprPtr object) {
  const int line = current().line;
  if (next().text == ".") {
    const Token& attribute = next();
    if (attribute.kind == TokenKind::kName) {
      ExprPtr expr = unary(ExprKind::kAttribute, line, std::move(object));
      expr->name = attribute.text;
      return expr;
    }
    if (attribute.kind != TokenKind::kInteger) fail_line(attribute.line, "expected name or number");
    return binary(ExprKind::kItem, line, std::move(object), constant(Value(attribute.integer), line));
  }
  std::vector<ExprPtr> subscripts;
  while (!is_op("]")) {
    if (!subscripts.empty()) expect_op(",");
    subscripts.push_back(parse_subscribed());
  }
  expect_op("]");
  if (subscripts.size() == 1) return binary(ExprKind::kItem, line, std::move(object), std::move(subscripts[0]));
  ExprPtr tuple = node(ExprKind::kTuple, line);
  for (ExprPtr& subscript : subscripts) {
    if (subscript->kind == ExprKind::kSlice) fail_line(line, "slices inside a tuple are not supported");
    add_child(*tuple, std::move(subscript));
  }
  return binary(ExprKind::kItem, line, std::move(object), std::move(tuple));
}

ExprPtr ExpressionParser::parse_subscribed() {
  const int line = current().line;
  ExprPtr start;
  if (!is_op(":")) {
    start = parse_expression();
    if (!is_op(":")) return start;
  }
  next();
  const auto is_end = [&] { return is_op("]") || is_op(","); };
  ExprPtr stop;
  ExprPtr step;
  if (!is_op(":") && !is_end()) stop = parse_expression();
  if (skip_op(":") && !is_end()) step = parse_expression();
  ExprPtr slice = node(ExprKind::kSlice, line);
  for (ExprPtr* part : {&start, &stop, &step}) {
    set_height(*slice, part->get());
    slice->children.push_back(std::move(*part));
  }
  return slice;
}

void ExpressionParser::parse_call_args(Expr& expr) {
  const int line = current().line;
  expr.args = std::make_unique<CallArgs>();
  CallArgs& args = *expr.args;
  const auto ensure = [&](bool is_ok) {
    if (!is_ok) fail_line(line, "invalid syntax for function call expression");
  };
  expect_op("(");
  bool is_first = true;
  while (!is_op(")")) {
    if (!is_first) {
      expect_op(",");
      if (is_op(")")) break;
    }
    is_first = false;
    ExprPtr value;
    if (skip_op("*")) {
      ensure(!args.rest && !args.named_rest);
      args.rest = parse_expression();
      set_height(expr, args.rest.get());
    } else if (skip_op("**")) {
      ensure(!args.named_rest);
      args.named_rest = parse_expression();
      set_height(expr, args.named_rest.get());
    } else if (is(TokenKind::kName) && look().kind == TokenKind::kOperator && look().text == "=") {
      ensure(!args.named_rest);
      std::string name = next().text;
      next();
      for (const auto& [other, unused] : args.named) {
        if (other == name) fail_line(line, fmt::format("keyword argument repeated: {}", name));
      }
      args.named.emplace_back(std::move(name), parse_expression());
      set_height(expr, args.named.back().second.get());
    } else {
      ensure(!args.rest && !args.named_rest && args.named.empty());
      args.positional.push_back(parse_expression());
      set_height(expr, args.positional.back().get());
    }
  }
  expect_op(")");
}

ExprPtr ExpressionParser::parse_call(ExprPtr function) {
  ExprPtr call = unary(ExprKind::kCall, current().line, std::move(function));
  parse_call_args(*call);
  return call;
}

std::string ExpressionParser::parse_dotted_name() {
  std::string name = expect_any_name();
  while (skip_op(".")) name += "." + expect_any_name();
  return name;
}

ExprPtr ExpressionParser::parse_filters(ExprPtr expr, bool starts_inline) {
  while (starts_inline || is_op("|")) {
    if (!starts_inline) next();
    starts_inline = false;
    const int line = current().line;
    ExprPtr filter = node(ExprKind::kFilter, line);
    set_height(*filter, expr.get());
    filter->children.push_back(std::move(expr));
    filter->name = parse_dotted_name();
    filter->filter = find_filter(filter->name);
    if (filter->filter == nullptr) note_missing(line, fmt::format("No filter named '{}'.", filter->name));
    if (is_op("(")) parse_call_args(*filter);
    expr = std::move(filter);
  }
  return expr;
}

ExprPtr ExpressionParser::parse_test(ExprPtr expr) {
  const int line = next().line;
  const bool is_negated = skip_name("not");
  ExprPtr test = unary(ExprKind::kTest, line, std::move(expr));
  test->name = parse_dotted_name();
  test->test = find_test(test->name);
  if (test->test == nullptr) note_missing(line, fmt::format("No test named '{}'.", test->name));
  const TokenKind kind = current().kind;
  const bool is_value = kind == TokenKind::kName || kind == TokenKind::kString || kind == TokenKind::kInteger ||
                        kind == TokenKind::kFloat || is_op("[") || is_op("{");
  if (is_op("(")) {
    parse_call_args(*test);
  } else if (is_value && !is_name("else") && !is_name("or") && !is_name("and")) {
    if (is_name("is")) fail_here("You cannot chain multiple tests with is");
    test->args = std::make_unique<CallArgs>();
    test->args->positional.push_back(parse_postfix(parse_primary()));
    set_height(*test, test->args->positional[0].get());
  }
  return is_negated ? unary(ExprKind::kNot, line, std::move(test)) : std::move(test);
}

void ExpressionParser::note_missing(int line, std::string message) {
  if (n_soft_ == 0) missing_.emplace_back(line, std::move(message));
}

}  // namespace mobilellm::jinja
