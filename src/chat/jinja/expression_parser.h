/// Token stream, tree building and expressions: the part of the parser below statements.
#pragma once

#include <algorithm>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "chat/jinja/ast.h"
#include "chat/jinja/lexer.h"
#include "chat/jinja/parser.h"

namespace mobilellm::jinja {

class ExpressionParser {
 protected:
  ExpressionParser(std::string_view source, std::string_view origin)
      : origin_(origin), tokens_(tokenize(source, origin)) {}

  // Counts nesting for the life of one recursive call.
  class Nested {
   public:
    explicit Nested(ExpressionParser& parser) : parser_(parser) {
      if (++parser_.depth_ > kMaxParseDepth) {
        fail(ErrorCode::kResourceLimit, "[template] {}:{}: nested too deeply", parser_.origin_, parser_.current().line);
      }
    }
    ~Nested() { --parser_.depth_; }
    Nested(const Nested&) = delete;
    Nested& operator=(const Nested&) = delete;

   private:
    ExpressionParser& parser_;
  };

  // Token stream.
  const Token& current() const { return tokens_[at_]; }
  const Token& look() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  const Token& next() {
    const Token& token = tokens_[at_];
    if (at_ + 1 < tokens_.size()) ++at_;
    return token;
  }
  bool is(TokenKind kind) const { return current().kind == kind; }
  bool is_op(std::string_view text) const { return is(TokenKind::kOperator) && current().text == text; }
  bool is_name(std::string_view text) const { return is(TokenKind::kName) && current().text == text; }
  bool is_next_name(std::string_view text) const { return look().kind == TokenKind::kName && look().text == text; }
  bool skip_op(std::string_view text) {
    if (!is_op(text)) return false;
    next();
    return true;
  }
  bool skip_name(std::string_view text) {
    if (!is_name(text)) return false;
    next();
    return true;
  }
  [[noreturn]] void fail_line(int line, std::string_view message) const { fail_at(origin_, line, message); }
  [[noreturn]] void fail_here(std::string_view message) const { fail_line(current().line, message); }
  [[noreturn]] void fail_expected(std::string_view what) const {
    if (is(TokenKind::kEnd)) fail_here(fmt::format("unexpected end of template, expected '{}'.", what));
    fail_here(fmt::format("expected token '{}', got '{}'", what, describe(current())));
  }
  void expect_op(std::string_view text) {
    if (!skip_op(text)) fail_expected(text);
  }
  void expect_name(std::string_view text) {
    if (!skip_name(text)) fail_expected(text);
  }
  std::string expect_any_name() {
    if (!is(TokenKind::kName)) fail_expected("name");
    return next().text;
  }
  void expect(TokenKind kind) {
    if (!is(kind)) fail_expected(describe({kind, 1, {}, 0, 0.0}));
    next();
  }

  // Building nodes.
  ExprPtr node(ExprKind kind, int line) {
    auto expr = std::make_unique<Expr>();
    expr->kind = kind;
    expr->line = line;
    return expr;
  }
  void set_height(Expr& expr, const Expr* child) {
    if (child == nullptr) return;
    expr.height = std::max(expr.height, child->height + 1);
    if (expr.height > kMaxExprHeight) {
      fail(ErrorCode::kResourceLimit, "[template] {}:{}: expression nested too deeply", origin_, expr.line);
    }
  }
  void add_child(Expr& expr, ExprPtr child) {
    set_height(expr, child.get());
    expr.children.push_back(std::move(child));
  }
  ExprPtr unary(ExprKind kind, int line, ExprPtr child) {
    ExprPtr expr = node(kind, line);
    add_child(*expr, std::move(child));
    return expr;
  }
  ExprPtr binary(ExprKind kind, int line, ExprPtr left, ExprPtr right) {
    ExprPtr expr = unary(kind, line, std::move(left));
    add_child(*expr, std::move(right));
    return expr;
  }
  ExprPtr constant(Value value, int line) {
    ExprPtr expr = node(ExprKind::kConstant, line);
    expr->constant = std::move(value);
    return expr;
  }
  ExprPtr parse_expression(bool with_conditional = true);
  ExprPtr parse_conditional();
  ExprPtr parse_or();
  ExprPtr parse_and();
  ExprPtr parse_not();
  bool read_compare_operator(CompareOp& op);
  ExprPtr parse_compare();
  ExprPtr parse_sum();
  ExprPtr parse_concat();
  ExprPtr parse_product();
  ExprPtr parse_power();
  ExprPtr parse_unary(bool with_filter);
  ExprPtr parse_primary();
  bool is_tuple_end(std::string_view end_name) const;
  ExprPtr parse_tuple(bool with_conditional, std::string_view end_name, bool is_parenthesized);
  ExprPtr parse_list();
  ExprPtr parse_dict();
  ExprPtr parse_postfix(ExprPtr expr);
  ExprPtr parse_filter_expression(ExprPtr expr);
  ExprPtr parse_subscript(ExprPtr object);
  ExprPtr parse_subscribed();
  void parse_call_args(Expr& expr);
  ExprPtr parse_call(ExprPtr function);
  std::string parse_dotted_name();
  // `| filter` as often as it occurs; `starts_inline`: the first comes without the bar.
  ExprPtr parse_filters(ExprPtr expr, bool starts_inline);
  ExprPtr parse_test(ExprPtr expr);
  // A filter or test that does not exist is an error at once, except below `if`, where it is one when reached.
  void note_missing(int line, std::string message);

  std::string_view origin_;
  std::vector<Token> tokens_;
  size_t at_ = 0;
  int depth_ = 0;
  int n_soft_ = 0;   // Open `if` blocks and conditional expressions of the present body.
  int n_loops_ = 0;  // Open loops that break and continue can reach.
  size_t n_loop_uses_ = 0;
  size_t n_varargs_uses_ = 0;
  size_t n_kwargs_uses_ = 0;
  size_t n_caller_uses_ = 0;
  std::vector<std::pair<int, std::string>> missing_;
  std::set<std::string, std::less<>> names_;
};

}  // namespace mobilellm::jinja
