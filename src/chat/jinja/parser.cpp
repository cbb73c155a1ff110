// Statements, with the grammar of Jinja 3.1.
#include "chat/jinja/parser.h"

#include <array>

#include "chat/jinja/expression_parser.h"

namespace mobilellm::jinja {
namespace {

constexpr size_t kMaxSourceBytes = size_t{4} << 20;

class Parser : private ExpressionParser {
 public:
  Parser(std::string_view source, std::string_view origin) : ExpressionParser(source, origin) {}

  std::shared_ptr<Template> run() {
    auto result = std::make_shared<Template>();
    result->origin = std::string(origin_);
    result->body = parse_body({});
    if (!missing_.empty()) fail_line(missing_[0].first, missing_[0].second);
    result->names = std::move(names_);
    return result;
  }

 private:
  using EndTags = std::vector<std::string_view>;

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

  std::set<std::string, std::less<>> block_names_;
};

}  // namespace

std::shared_ptr<const Template> parse_template(std::string_view source, std::string_view origin) {
  if (source.size() > kMaxSourceBytes) {
    fail(ErrorCode::kResourceLimit, "[template] {}: {} bytes, the limit is {}", origin, source.size(), kMaxSourceBytes);
  }
  return Parser(source, origin).run();
}

}  // namespace mobilellm::jinja
