// Recursive-descent parser with the grammar and precedences of Jinja 3.1.
#include "chat/jinja/parser.h"

#include <algorithm>
#include <array>
#include <utility>

#include "chat/jinja/builtins.h"
#include "chat/jinja/lexer.h"

namespace mobilellm::jinja {
namespace {

constexpr size_t kMaxSourceBytes = size_t{4} << 20;

class Parser {
 public:
  Parser(std::string_view source, std::string_view origin) : origin_(origin), tokens_(tokenize(source, origin)) {}

  std::shared_ptr<Template> run() {
    auto result = std::make_shared<Template>();
    result->origin = std::string(origin_);
    result->body = parse_body({});
    result->names = std::move(names_);
    return result;
  }

 private:
  using EndTags = std::vector<std::string_view>;

  // Counts nesting for the life of one recursive call.
  class Nested {
   public:
    explicit Nested(Parser& parser) : parser_(parser) {
      if (++parser_.depth_ > kMaxParseDepth) {
        fail(ErrorCode::kResourceLimit, "[template] {}:{}: nested too deeply", parser_.origin_, parser_.current().line);
      }
    }
    ~Nested() { --parser_.depth_; }
    Nested(const Nested&) = delete;
    Nested& operator=(const Nested&) = delete;

   private:
    Parser& parser_;
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
  std::unique_ptr<Statement> statement(StatementKind kind, int line) {
    auto result = std::make_unique<Statement>();
    result->kind = kind;
    result->line = line;
    return result;
  }

  // ---- Statements ----

  static bool is_one_of(const Token& token, const EndTags& tags) {
    if (token.kind != TokenKind::kName) return false;
    for (const std::string_view tag : tags) {
      if (token.text == tag) return true;
    }
    return false;
  }

  // Statements up to one of the end tags, whose name stays the current token.
  Body parse_body(const EndTags& end_tags) {
    const Nested nested(*this);
    Body body;
    while (!is(TokenKind::kEnd)) {
      const int line = current().line;
      if (is(TokenKind::kData)) {
        auto data = statement(StatementKind::kText, line);
        data->text = next().text;
        body.push_back(std::move(data));
      } else if (is(TokenKind::kVariableBegin)) {
        next();
        auto print = statement(StatementKind::kPrint, line);
        print->exprs.push_back(parse_tuple(true, {}, false));
        expect(TokenKind::kVariableEnd);
        body.push_back(std::move(print));
      } else {
        next();
        if (is_one_of(current(), end_tags)) return body;
        body.push_back(parse_statement(end_tags));
        expect(TokenKind::kBlockEnd);
      }
    }
    if (!end_tags.empty())
      fail_here(
          fmt::format("Unexpected end of template. Jinja was looking for the following tags: '{}'.", end_tags[0]));
    return body;
  }

  // The rest of a tag, then its body. `drop_end`: the end tag's name is passed too.
  Body parse_block_body(const EndTags& end_tags, bool drop_end) {
    skip_op(":");
    expect(TokenKind::kBlockEnd);
    Body body = parse_body(end_tags);
    if (drop_end) next();
    return body;
  }
  // A body that is compiled on its own: filters must exist, and loop controls do not reach out of it when
  // `is_function`.
  Body parse_inner_body(const EndTags& end_tags, bool drop_end, bool is_function) {
    const int soft = std::exchange(n_soft_, 0);
    const int loops = is_function ? std::exchange(n_loops_, 0) : n_loops_;
    Body body = parse_block_body(end_tags, drop_end);
    n_soft_ = soft;
    n_loops_ = loops;
    return body;
  }

  std::unique_ptr<Statement> parse_statement(const EndTags& end_tags) {
    if (!is(TokenKind::kName)) fail_here("tag name expected");
    struct Tag {
      std::string_view name;
      std::unique_ptr<Statement> (Parser::*parse)();
    };
    static constexpr std::array<Tag, 17> kTags = {{
        {"for", &Parser::parse_for},
        {"if", &Parser::parse_if},
        {"set", &Parser::parse_set},
        {"with", &Parser::parse_with},
        {"macro", &Parser::parse_macro},
        {"call", &Parser::parse_call_block},
        {"filter", &Parser::parse_filter_block},
        {"print", &Parser::parse_print},
        {"block", &Parser::parse_block},
        {"autoescape", &Parser::parse_autoescape},
        {"generation", &Parser::parse_generation},
        {"break", &Parser::parse_loop_control},
        {"continue", &Parser::parse_loop_control},
        {"include", &Parser::parse_include},
        {"import", &Parser::parse_import},
        {"from", &Parser::parse_from},
        {"extends", &Parser::parse_extends},
    }};
    for (const Tag& tag : kTags) {
      if (current().text == tag.name) return (this->*tag.parse)();
    }
    std::string message = fmt::format("Encountered unknown tag '{}'.", current().text);
    if (!end_tags.empty()) message += fmt::format(" Jinja was looking for the following tags: '{}'.", end_tags[0]);
    fail_here(message);
  }

  std::unique_ptr<Statement> parse_for() {
    auto loop = statement(StatementKind::kFor, next().line);
    loop->targets.push_back(parse_target(false, "in"));
    if (stores_name(loop->targets[0], "loop"))
      fail_line(loop->line, "Can't assign to special loop variable in for-loop target");
    expect_name("in");
    loop->exprs.push_back(parse_tuple(false, "recursive", false));
    if (skip_name("if")) {
      const int soft = std::exchange(n_soft_, 0);
      loop->condition = parse_expression();
      n_soft_ = soft;
    }
    loop->is_recursive = skip_name("recursive");
    const size_t n_uses = n_loop_uses_;
    ++n_loops_;
    loop->bodies.push_back(parse_inner_body({"endfor", "else"}, false, false));
    --n_loops_;
    loop->uses_loop = n_loop_uses_ != n_uses || loop->is_recursive;
    if (next().text == "else") loop->bodies.push_back(parse_inner_body({"endfor"}, true, false));
    return loop;
  }

  std::unique_ptr<Statement> parse_if() {
    auto result = statement(StatementKind::kIf, next().line);
    ++n_soft_;
    while (true) {
      result->exprs.push_back(parse_tuple(false, {}, false));
      result->bodies.push_back(parse_block_body({"elif", "else", "endif"}, false));
      const std::string& tag = next().text;
      if (tag == "elif") continue;
      if (tag == "else") result->bodies.push_back(parse_block_body({"endif"}, true));
      break;
    }
    --n_soft_;
    return result;
  }

  std::unique_ptr<Statement> parse_set() {
    const int line = next().line;
    Target target = parse_target(true, {});
    if (skip_op("=")) {
      auto set = statement(StatementKind::kSet, line);
      set->targets.push_back(std::move(target));
      set->exprs.push_back(parse_tuple(true, {}, false));
      return set;
    }
    auto set = statement(StatementKind::kSetBlock, line);
    set->targets.push_back(std::move(target));
    set->exprs.push_back(parse_filters(nullptr, false));
    set->bodies.push_back(parse_inner_body({"endset"}, true, false));
    return set;
  }

  std::unique_ptr<Statement> parse_with() {
    auto with = statement(StatementKind::kWith, next().line);
    while (!is(TokenKind::kBlockEnd)) {
      if (!with->targets.empty()) expect_op(",");
      with->targets.push_back(parse_target(false, {}));
      expect_op("=");
      with->exprs.push_back(parse_expression());
    }
    with->bodies.push_back(parse_inner_body({"endwith"}, true, false));
    return with;
  }

  // Parses a body and notes which special names of macros it uses.
  Body parse_macro_body(Signature& signature, std::string_view end_tag) {
    const size_t n_varargs = n_varargs_uses_;
    const size_t n_kwargs = n_kwargs_uses_;
    const size_t n_caller = n_caller_uses_;
    Body body = parse_inner_body({end_tag}, true, true);
    signature.uses_varargs = n_varargs_uses_ != n_varargs;
    signature.uses_kwargs = n_kwargs_uses_ != n_kwargs;
    signature.uses_caller = n_caller_uses_ != n_caller;
    return body;
  }

  void parse_signature(Signature& signature) {
    expect_op("(");
    while (!is_op(")")) {
      if (!signature.parameters.empty()) expect_op(",");
      const int line = current().line;
      std::string name = expect_assignable_name();
      for (const std::string& other : signature.parameters) {
        if (other == name) fail_line(line, fmt::format("duplicate argument '{}' in macro definition", name));
      }
      if (skip_op("=")) {
        signature.defaults.push_back(parse_expression());
      } else if (!signature.defaults.empty()) {
        fail_here("non-default argument follows default argument");
      }
      signature.parameters.push_back(std::move(name));
    }
    expect_op(")");
    const size_t n_required = signature.parameters.size() - signature.defaults.size();
    for (size_t i = 0; i < n_required; ++i) {
      if (signature.parameters[i] == "caller") {
        fail_here(
            "When defining macros or call blocks the special \"caller\" argument must be omitted or be given a "
            "default.");
      }
    }
  }

  std::unique_ptr<Statement> parse_macro() {
    auto macro = statement(StatementKind::kMacro, next().line);
    macro->signature = std::make_unique<Signature>();
    macro->signature->name = expect_assignable_name();
    parse_signature(*macro->signature);
    macro->bodies.push_back(parse_macro_body(*macro->signature, "endmacro"));
    return macro;
  }

  std::unique_ptr<Statement> parse_call_block() {
    auto call = statement(StatementKind::kCallBlock, next().line);
    call->signature = std::make_unique<Signature>();
    call->signature->name = "caller";
    if (is_op("(")) parse_signature(*call->signature);
    call->exprs.push_back(parse_expression());
    if (call->exprs[0]->kind != ExprKind::kCall) fail_line(call->line, "expected call");
    call->bodies.push_back(parse_macro_body(*call->signature, "endcall"));
    return call;
  }

  std::unique_ptr<Statement> parse_filter_block() {
    auto filter = statement(StatementKind::kFilterBlock, next().line);
    filter->exprs.push_back(parse_filters(nullptr, true));
    filter->bodies.push_back(parse_inner_body({"endfilter"}, true, false));
    return filter;
  }

  std::unique_ptr<Statement> parse_print() {
    auto print = statement(StatementKind::kPrint, next().line);
    while (!is(TokenKind::kBlockEnd)) {
      if (!print->exprs.empty()) expect_op(",");
      print->exprs.push_back(parse_expression());
    }
    return print;
  }

  std::unique_ptr<Statement> parse_block() {
    auto block = statement(StatementKind::kBlock, next().line);
    block->text = expect_any_name();
    if (!block_names_.insert(block->text).second) {
      fail_line(block->line, fmt::format("block '{}' defined twice", block->text));
    }
    block->is_scoped = skip_name("scoped");
    block->is_required = skip_name("required");
    block->bodies.push_back(parse_inner_body({"endblock"}, true, true));
    skip_name(block->text);
    return block;
  }

  std::unique_ptr<Statement> parse_autoescape() {
    auto scope = statement(StatementKind::kScope, next().line);
    scope->exprs.push_back(parse_expression());
    scope->bodies.push_back(parse_inner_body({"endautoescape"}, true, false));
    return scope;
  }

  std::unique_ptr<Statement> parse_generation() {
    auto scope = statement(StatementKind::kScope, next().line);
    scope->bodies.push_back(parse_inner_body({"endgeneration"}, true, true));
    return scope;
  }

  std::unique_ptr<Statement> parse_loop_control() {
    const Token& tag = next();
    if (n_loops_ == 0) fail_line(tag.line, fmt::format("'{}' outside loop", tag.text));
    return statement(tag.text == "break" ? StatementKind::kBreak : StatementKind::kContinue, tag.line);
  }

  void parse_context() {
    if ((is_name("with") || is_name("without")) && is_next_name("context")) {
      next();
      next();
    }
  }

  std::unique_ptr<Statement> parse_include() {
    auto include = statement(StatementKind::kInclude, next().line);
    parse_expression();
    if (is_name("ignore") && is_next_name("missing")) {
      next();
      next();
    }
    parse_context();
    return include;
  }

  std::unique_ptr<Statement> parse_import() {
    auto import = statement(StatementKind::kInclude, next().line);
    parse_expression();
    expect_name("as");
    expect_assignable_name();
    parse_context();
    return import;
  }

  std::unique_ptr<Statement> parse_from() {
    auto import = statement(StatementKind::kInclude, next().line);
    parse_expression();
    expect_name("import");
    bool is_first = true;
    do {
      if (!is_first && (is_name("with") || is_name("without")) && is_next_name("context")) break;
      is_first = false;
      expect_assignable_name();
      if (skip_name("as")) expect_assignable_name();
    } while (skip_op(","));
    parse_context();
    return import;
  }

  std::unique_ptr<Statement> parse_extends() {
    auto extends = statement(StatementKind::kInclude, next().line);
    parse_expression();
    return extends;
  }

  // ---- Targets ----

  static bool is_reserved(std::string_view name) {
    return name == "true" || name == "false" || name == "none" || name == "True" || name == "False" || name == "None";
  }
  static bool stores_name(const Target& target, std::string_view name) {
    if (target.kind == Target::Kind::kName) return target.name == name;
    for (const Target& part : target.parts) {
      if (stores_name(part, name)) return true;
    }
    return false;
  }
  std::string expect_assignable_name() {
    const int line = current().line;
    std::string name = expect_any_name();
    if (is_reserved(name)) fail_line(line, "can't assign to 'name'");
    return name;
  }

  Target parse_target(bool allows_attribute, std::string_view end_name) {
    const int line = current().line;
    std::vector<Target> parts;
    bool is_tuple = false;
    while (true) {
      if (!parts.empty()) expect_op(",");
      if (is_tuple_end(end_name)) break;
      parts.push_back(parse_primary_target(allows_attribute));
      if (!is_op(",")) break;
      is_tuple = true;
    }
    if (!is_tuple && parts.size() == 1) return std::move(parts[0]);
    if (parts.empty()) fail_here(fmt::format("Expected an expression, got '{}'", describe(current())));
    Target target;
    target.kind = Target::Kind::kTuple;
    target.line = line;
    target.parts = std::move(parts);
    return target;
  }

  Target parse_primary_target(bool allows_attribute) {
    const Nested nested(*this);
    Target target;
    target.line = current().line;
    if (skip_op("(")) {
      target = parse_target(false, {});
      expect_op(")");
      return target;
    }
    if (!is(TokenKind::kName)) fail_here(fmt::format("can't assign to '{}'", describe(current())));
    target.name = expect_assignable_name();
    if (allows_attribute && skip_op(".")) {
      target.kind = Target::Kind::kAttribute;
      target.attribute = expect_any_name();
      names_.insert(target.name);
    }
    return target;
  }

  // ---- Expressions ----

  ExprPtr parse_expression(bool with_conditional = true) {
    const Nested nested(*this);
    return with_conditional ? parse_conditional() : parse_or();
  }

  ExprPtr parse_conditional() {
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

  ExprPtr parse_or() {
    const int line = current().line;
    ExprPtr left = parse_and();
    while (skip_name("or")) left = binary(ExprKind::kOr, line, std::move(left), parse_and());
    return left;
  }

  ExprPtr parse_and() {
    const int line = current().line;
    ExprPtr left = parse_not();
    while (skip_name("and")) left = binary(ExprKind::kAnd, line, std::move(left), parse_not());
    return left;
  }

  ExprPtr parse_not() {
    if (is_name("not")) {
      const Nested nested(*this);
      const int line = next().line;
      return unary(ExprKind::kNot, line, parse_not());
    }
    return parse_compare();
  }

  bool read_compare_operator(CompareOp& op) {
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

  ExprPtr parse_compare() {
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

  ExprPtr parse_sum() {
    const int line = current().line;
    ExprPtr left = parse_concat();
    while (is_op("+") || is_op("-")) {
      const ExprKind kind = next().text == "+" ? ExprKind::kAdd : ExprKind::kSubtract;
      left = binary(kind, line, std::move(left), parse_concat());
    }
    return left;
  }

  ExprPtr parse_concat() {
    const int line = current().line;
    ExprPtr first = parse_product();
    if (!is_op("~")) return first;
    ExprPtr concat = unary(ExprKind::kConcat, line, std::move(first));
    while (skip_op("~")) add_child(*concat, parse_product());
    return concat;
  }

  ExprPtr parse_product() {
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

  ExprPtr parse_power() {
    const int line = current().line;
    ExprPtr left = parse_unary(true);
    while (skip_op("**")) left = binary(ExprKind::kPower, line, std::move(left), parse_unary(true));
    return left;
  }

  ExprPtr parse_unary(bool with_filter) {
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

  ExprPtr parse_primary() {
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

  bool is_tuple_end(std::string_view end_name) const {
    return is(TokenKind::kVariableEnd) || is(TokenKind::kBlockEnd) || is_op(")") ||
           (!end_name.empty() && is_name(end_name));
  }

  ExprPtr parse_tuple(bool with_conditional, std::string_view end_name, bool is_parenthesized) {
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

  ExprPtr parse_list() {
    ExprPtr list = node(ExprKind::kList, next().line);
    while (!is_op("]")) {
      if (!list->children.empty()) expect_op(",");
      if (is_op("]")) break;
      add_child(*list, parse_expression());
    }
    expect_op("]");
    return list;
  }

  ExprPtr parse_dict() {
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

  ExprPtr parse_postfix(ExprPtr expr) {
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

  ExprPtr parse_filter_expression(ExprPtr expr) {
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

  ExprPtr parse_subscript(ExprPtr object) {
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

  ExprPtr parse_subscribed() {
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

  void parse_call_args(Expr& expr) {
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

  ExprPtr parse_call(ExprPtr function) {
    ExprPtr call = unary(ExprKind::kCall, current().line, std::move(function));
    parse_call_args(*call);
    return call;
  }

  std::string parse_dotted_name() {
    std::string name = expect_any_name();
    while (skip_op(".")) name += "." + expect_any_name();
    return name;
  }

  // `| filter` as often as it occurs; `starts_inline`: the first comes without the bar.
  ExprPtr parse_filters(ExprPtr expr, bool starts_inline) {
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

  ExprPtr parse_test(ExprPtr expr) {
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

  // A filter or test that does not exist is an error at once, except below `if`, where it is one when reached.
  void note_missing(int line, std::string message) {
    if (n_soft_ == 0) missing_.emplace_back(line, std::move(message));
  }

 public:
  void report_missing() const {
    if (!missing_.empty()) fail_line(missing_[0].first, missing_[0].second);
  }

 private:
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
  std::set<std::string, std::less<>> block_names_;
};

}  // namespace

std::shared_ptr<const Template> parse_template(std::string_view source, std::string_view origin) {
  if (source.size() > kMaxSourceBytes) {
    fail(ErrorCode::kResourceLimit, "[template] {}: {} bytes, the limit is {}", origin, source.size(), kMaxSourceBytes);
  }
  Parser parser(source, origin);
  auto result = parser.run();
  parser.report_missing();
  return result;
}

}  // namespace mobilellm::jinja
