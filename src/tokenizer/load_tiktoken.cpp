// Llama-3's tokenizer.model: "base64(token) rank" lines; split rule and special tokens are fixed by the model family.
#include <algorithm>
#include <array>

#include "base/error.h"
#include "base/files.h"
#include "tokenizer/model_builder.h"

namespace mobilellm {
namespace {

constexpr size_t kMaxFile = size_t{256} << 20;
constexpr int kSpecialTokens = 256;

constexpr std::array<int8_t, 256> make_base64_values() {
  std::array<int8_t, 256> values{};
  for (int8_t& value : values) value = -1;
  const std::string_view alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (size_t i = 0; i < alphabet.size(); ++i) values[static_cast<unsigned char>(alphabet[i])] = static_cast<int8_t>(i);
  return values;
}
constexpr std::array<int8_t, 256> kBase64 = make_base64_values();

/// False when `text` is not padded base64.
bool decode_base64(std::string_view text, std::string& out) {
  out.clear();
  if (text.empty() || text.size() % 4 != 0) return false;
  const size_t n_padding = text.ends_with("==") ? 2 : text.ends_with('=') ? 1 : 0;
  uint32_t bits = 0;
  int n_bits = 0;
  for (const char c : text.substr(0, text.size() - n_padding)) {
    const int value = kBase64[static_cast<unsigned char>(c)];
    if (value < 0) return false;
    bits = bits << 6 | static_cast<uint32_t>(value);
    n_bits += 6;
    if (n_bits >= 8) {
      n_bits -= 8;
      out.push_back(static_cast<char>(bits >> n_bits & 0xFF));
    }
  }
  return true;
}

/// The special tokens of Llama-3.1, in the order of their ids after the ranks.
std::vector<AddedToken> llama3_special_tokens(int64_t first_id) {
  std::vector<AddedToken> tokens;
  int n_reserved = 0;
  for (int i = 0; i < kSpecialTokens; ++i) {
    std::string name;
    switch (i) {
      case 0:
        name = "<|begin_of_text|>";
        break;
      case 1:
        name = "<|end_of_text|>";
        break;
      case 4:
        name = "<|finetune_right_pad_id|>";
        break;
      case 6:
        name = "<|start_header_id|>";
        break;
      case 7:
        name = "<|end_header_id|>";
        break;
      case 8:
        name = "<|eom_id|>";
        break;
      case 9:
        name = "<|eot_id|>";
        break;
      case 10:
        name = "<|python_tag|>";
        break;
      default:
        name = fmt::format("<|reserved_special_token_{}|>", n_reserved++);
    }
    AddedToken token;
    token.id = static_cast<TokenId>(first_id + i);
    token.content = std::move(name);
    token.is_special = true;
    tokens.push_back(std::move(token));
  }
  return tokens;
}

}  // namespace

std::shared_ptr<const Tokenizer> load_tiktoken_text(std::string_view text, std::string_view origin) {
  const auto n_lines = static_cast<size_t>(std::count(text.begin(), text.end(), '\n')) + 1;
  ModelBuilder builder(std::string(origin), true, n_lines, text.size());
  std::string bytes;
  int64_t next_id = 0;  // One past the highest rank.
  size_t line_number = 0;
  for (size_t start = 0; start < text.size();) {
    const size_t end = std::min(text.find('\n', start), text.size());
    std::string_view line = text.substr(start, end - start);
    start = end + 1;
    ++line_number;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty()) continue;
    const size_t space = line.find(' ');
    const std::string_view rank_text = space == std::string_view::npos ? std::string_view() : line.substr(space + 1);
    const bool has_rank = !rank_text.empty() && rank_text.size() < 10 &&
                          rank_text.find_first_not_of("0123456789") == std::string_view::npos;
    if (!has_rank || !decode_base64(line.substr(0, space), bytes)) {
      fail(ErrorCode::kCorruptData, "[tokenizer] {}: line {}: expected base64 of a token and its rank", origin,
           line_number);
    }
    const int64_t rank = std::stoll(std::string(rank_text));
    builder.add_raw_token(bytes, rank, fmt::format("line {}", line_number));
    next_id = std::max(next_id, rank + 1);
  }
  if (next_id == 0) fail(ErrorCode::kCorruptData, "[tokenizer] {}: no tokens", origin);
  if (next_id + kSpecialTokens > kMaxTokenId) {
    fail(ErrorCode::kCorruptData, "[tokenizer] {}: no ids left for the special tokens after rank {}", origin,
         next_id - 1);
  }
  builder.add_all_merges([](TokenId id) { return static_cast<uint32_t>(id); });
  BpeOptions options;
  options.ignore_merges = true;
  auto parts = builder.finish(options, llama3_special_tokens(next_id), Normalizer());
  parts->pre_tokenizer = PreTokenizer([] {
    std::vector<PreTokenizerStep> steps;
    steps.push_back(ScanStep{scan_llama3});
    return steps;
  }());
  const auto bos = static_cast<TokenId>(next_id);
  parts->post_processor = {
      true, {{-1, {bos}, 0}, {0, {}, 0}}, {{-1, {bos}, 0}, {0, {}, 0}, {-1, {bos}, 1}, {1, {}, 1}}};
  parts->decoder.emplace_back(DecodeByteLevel{});
  parts->bos_id = bos;
  parts->source = "tiktoken";
  parts->finish();
  return std::make_shared<const Tokenizer>(std::move(parts));
}

std::shared_ptr<const Tokenizer> load_tiktoken(const std::string& path) {
  return load_tiktoken_text(read_file(path, kMaxFile), path);
}

}  // namespace mobilellm
