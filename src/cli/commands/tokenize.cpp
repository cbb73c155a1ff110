// mobilellm tokenize: text to token ids and back, whole or one JSON object a line.
#include <cctype>
#include <charconv>
#include <optional>
#include <string>

#include "base/error.h"
#include "base/files.h"
#include "base/json.h"
#include "cli/args.h"
#include "cli/commands/commands.h"
#include "cli/line_reader.h"
#include "cli/terminal.h"
#include "model/loader.h"
#include "tokenizer/tokenizer.h"

namespace mobilellm::cli {
namespace {

struct TokenizeFlags {
  std::string model_path = ".";
  std::string file = "-";
  std::optional<std::string> text;
  bool jsonl = false;
  bool json = false;
  bool special = false;
  bool decode = false;
  bool skip_special = false;
};

Json ids_to_json(const std::vector<TokenId>& ids) {
  Json::Array array;
  array.reserve(ids.size());
  for (const TokenId id : ids) array.emplace_back(int64_t{id});
  return Json(std::move(array));
}

TokenId checked_id(int64_t id, const Tokenizer& tokenizer, const std::string& origin) {
  if (id < 0 || id >= static_cast<int64_t>(tokenizer.vocab_size())) {
    fail(ErrorCode::kCorruptData, "[tokenize] {}: got id {}, expected 0 to {}", origin, id, tokenizer.vocab_size() - 1);
  }
  return static_cast<TokenId>(id);
}

// Ids written with anything but digits between them: "1 2 3", "[1, 2, 3]".
std::vector<TokenId> parse_ids(std::string_view text, const Tokenizer& tokenizer, const std::string& origin) {
  std::vector<TokenId> ids;
  size_t i = 0;
  while (i < text.size()) {
    if (std::isspace(static_cast<unsigned char>(text[i])) != 0 || text[i] == ',' || text[i] == '[' || text[i] == ']') {
      ++i;
      continue;
    }
    int64_t id = -1;
    const auto [end, error] = std::from_chars(text.data() + i, text.data() + text.size(), id);
    if (error != std::errc()) {
      fail(ErrorCode::kCorruptData, "[tokenize] {}: got '{}', expected token ids", origin, text.substr(i, 20));
    }
    ids.push_back(checked_id(id, tokenizer, origin));
    i = static_cast<size_t>(end - text.data());
  }
  return ids;
}

std::vector<TokenId> ids_from_json(const Json& value, const Tokenizer& tokenizer, const std::string& origin) {
  if (!value.is_array())
    fail(ErrorCode::kCorruptData, "[tokenize] {}: ids: got {}, expected array", origin, value.type_name());
  std::vector<TokenId> ids;
  ids.reserve(value.as_array().size());
  for (const Json& id : value.as_array()) {
    if (!id.is_int())
      fail(ErrorCode::kCorruptData, "[tokenize] {}: ids: got {}, expected integer", origin, id.type_name());
    ids.push_back(checked_id(id.as_int(), tokenizer, origin));
  }
  return ids;
}

Json encode_to_json(std::string_view text, const Tokenizer& tokenizer, bool special) {
  return Json::object().set("ids", ids_to_json(tokenizer.encode(text, {.add_special = special})));
}

Json answer_line(const std::string& line, const std::string& origin, const Tokenizer& tokenizer,
                 const TokenizeFlags& flags) {
  const Json request = Json::parse(line, origin);
  if (!request.is_object()) {
    fail(ErrorCode::kCorruptData, "[tokenize] {}: got {}, expected an object", origin, request.type_name());
  }
  JsonObjectReader reader(request, "[tokenize] " + origin);
  if (flags.decode) {
    const Json* ids = reader.find("ids");
    if (ids == nullptr) reader.fail_key("ids", "is missing");
    const bool skip = reader.get_bool("skip_special_tokens", flags.skip_special);
    return Json::object().set("text", tokenizer.decode(ids_from_json(*ids, tokenizer, origin), skip));
  }
  const std::string text = reader.get_string("text");
  if (!reader.has("text_pair")) return encode_to_json(text, tokenizer, flags.special);
  const PairEncoding pair = tokenizer.encode_pair(text, reader.get_string("text_pair"), {.add_special = flags.special});
  return Json::object().set("ids", ids_to_json(pair.ids)).set("type_ids", ids_to_json(pair.type_ids));
}

// A model, a folder with a tokenizer alone, or a tokenizer file.
std::shared_ptr<const Tokenizer> load_tokenizer(const std::string& path) {
  if (file_exists(path) && path.ends_with(".json")) return load_tokenizer_json(path);
  if (file_exists(path) && (path.ends_with(".model") || path.ends_with(".tiktoken"))) return load_tokenizer_model(path);
  std::shared_ptr<const Tokenizer> tokenizer = load_text_parts(path).tokenizer;
  if (tokenizer == nullptr) fail(ErrorCode::kNotFound, "[tokenize] {} has no tokenizer", path);
  return tokenizer;
}

// A bad line is answered with its error and the next is read; the exit status tells that there was one.
int answer_lines(const Tokenizer& tokenizer, const TokenizeFlags& flags) {
  LineReader lines(flags.file);
  int status = 0;
  while (const std::optional<std::string> line = lines.next()) {
    if (line->find_first_not_of(" \t") == std::string::npos) continue;
    Json answer;
    try {
      answer = answer_line(*line, lines.where(), tokenizer, flags);
    } catch (const Error& error) {
      answer = Json::object().set("error", error.what());
      status = 1;
    }
    print(json_line(answer));
  }
  return status;
}

}  // namespace

int run_tokenize(int argc, const char* const* argv) {
  TokenizeFlags flags;
  Args args("tokenize", "Turns text into token ids, or ids into text with --decode.",
            "[--model-path PATH] [TEXT] [flags]");
  args.text("--model-path,--model", "PATH", flags.model_path,
            "model folder (may hold a tokenizer alone), .gguf file or tokenizer file (default: .)");
  args.positional("TEXT", flags.text, "the text, or ids with --decode; standard input when absent");
  args.text("--file", "FILE", flags.file, "read from this file instead of standard input");
  args.flag("--jsonl", flags.jsonl, "one JSON object a line in, one a line out");
  args.flag("--special", flags.special, "apply the post-processor (BOS and the like)");
  args.flag("--decode", flags.decode, "ids to text");
  args.flag("--skip-special", flags.skip_special, "with --decode: leave special tokens out");
  args.flag("--json", flags.json, "print one JSON object instead of plain text");
  args.example("mobilellm tokenize --model-path MODEL \"Hello world\"");
  args.example("mobilellm tokenize --model-path MODEL --decode \"9906 1917\"");
  args.example("echo '{\"text\": \"Hi\"}' | mobilellm tokenize --model-path MODEL --jsonl");
  args.note(
      "--jsonl reads {\"text\": T} or {\"text\": T, \"text_pair\": U} and writes {\"ids\": [..]} (with \"type_ids\" "
      "for a "
      "pair); with --decode it reads {\"ids\": [..]} and writes {\"text\": T}. A line that fails gives "
      "{\"error\": MESSAGE}, and the exit status is 1 at the end.");
  if (!args.parse(argc, argv)) return 0;
  if (flags.jsonl && flags.text) args.fail_usage("--jsonl reads lines, not the argument '" + *flags.text + "'");

  const std::shared_ptr<const Tokenizer> loaded = load_tokenizer(flags.model_path);
  const Tokenizer& tokenizer = *loaded;
  if (flags.jsonl) return answer_lines(tokenizer, flags);

  const std::string input = flags.text && *flags.text != "-" ? *flags.text : read_input(flags.file);
  if (flags.decode) {
    const std::string text = tokenizer.decode(parse_ids(input, tokenizer, "ids"), flags.skip_special);
    print(flags.json ? json_line(Json::object().set("text", text)) : text + "\n");
    return 0;
  }
  require_utf8(input, "[tokenize] text");
  if (flags.json) {
    const std::vector<TokenId> ids = tokenizer.encode(input, {.add_special = flags.special});
    Json::Array tokens;
    for (const TokenId id : ids) tokens.emplace_back(tokenizer.token_text(id));
    print(Json::object().set("ids", ids_to_json(ids)).set("tokens", Json(std::move(tokens))).dump(true) + "\n");
    return 0;
  }
  std::string line;
  for (const TokenId id : tokenizer.encode(input, {.add_special = flags.special})) {
    if (!line.empty()) line += ' ';
    line += std::to_string(id);
  }
  print(line + "\n");
  return 0;
}

}  // namespace mobilellm::cli
