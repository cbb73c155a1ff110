// Reading text files and cutting them into chunks.
#include "quality/text_set.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "base/files.h"
#include "base/json.h"
#include "base/utf8.h"

namespace mobilellm {
namespace {

constexpr size_t kMaxTextBytes = size_t{256} << 20;

void check_utf8(const std::string& path, std::string_view text) {
  if (is_valid_utf8(text)) return;
  size_t offset = 0;
  while (true) {
    const Utf8Char c = decode_utf8(text, offset);
    if (!c.is_valid) break;
    offset += static_cast<size_t>(c.n_bytes);
  }
  fail(ErrorCode::kCorruptData, "[quality] {}: byte {} (line {}) is not UTF-8; expected UTF-8 text", path, offset,
       std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(offset), '\n') + 1);
}

std::string row_text(const Json& row, const std::string& origin, const LoadedText& text) {
  const Json* messages = row.find("messages");
  if (messages == nullptr) return JsonObjectReader(row, origin).get_string("text");
  if (text.chat_template == nullptr) {
    fail(ErrorCode::kInvalidArgument, "{}: got messages, but the model has no chat template; give rows with a text",
         origin);
  }
  ChatTemplate::Inputs inputs;
  inputs.messages = *messages;
  inputs.add_generation_prompt = false;
  if (!text.bos_token.empty()) inputs.bos_token = text.bos_token;
  if (!text.eos_token.empty()) inputs.eos_token = text.eos_token;
  return text.chat_template->render(inputs);
}

}  // namespace

std::string read_text(const std::string& path, const LoadedText& text) {
  std::string content = read_file(path, kMaxTextBytes);
  check_utf8(path, content);
  if (!path.ends_with(".jsonl")) return content;
  std::string joined;
  int64_t line_number = 0;
  for (size_t begin = 0; begin < content.size();) {
    const size_t end = std::min(content.find('\n', begin), content.size());
    const std::string_view line = std::string_view(content).substr(begin, end - begin);
    begin = end + 1;
    ++line_number;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const std::string origin = fmt::format("[quality] {}, line {}", path, line_number);
    if (!joined.empty()) joined += "\n\n";
    joined += row_text(Json::parse(line, origin), origin, text);
  }
  return joined;
}

TextSet read_text_set(const std::string& path, const LoadedText& text, const TextSetOptions& options) {
  if (options.chunk_tokens < 2 || options.max_chunks < 0) {
    fail(ErrorCode::kInvalidArgument, "[quality] chunks: got {} tokens, at most {} chunks; expected at least 2 tokens",
         options.chunk_tokens, options.max_chunks);
  }
  if (text.tokenizer == nullptr) {
    fail(ErrorCode::kNotFound, "[quality] the model has no tokenizer, which {} needs; copy tokenizer.json to it", path);
  }
  const std::vector<int32_t> ids = text.tokenizer->encode(read_text(path, text));
  if (ids.size() < 2) {
    fail(ErrorCode::kInvalidArgument, "[quality] {}: got {} tokens, expected at least 2", path, ids.size());
  }
  TextSet set;
  set.path = path;
  const size_t size = std::min(static_cast<size_t>(options.chunk_tokens), ids.size());
  size_t n_chunks = ids.size() / size;
  if (options.max_chunks > 0) n_chunks = std::min(n_chunks, static_cast<size_t>(options.max_chunks));
  set.chunks.reserve(n_chunks);
  for (size_t i = 0; i < n_chunks; ++i) {
    const auto begin = ids.begin() + static_cast<std::ptrdiff_t>(i * size);
    set.chunks.emplace_back(begin, begin + static_cast<std::ptrdiff_t>(size));
  }
  set.n_left_out = static_cast<int64_t>(ids.size() - n_chunks * size);
  return set;
}

}  // namespace mobilellm
