// Loaders on broken and hostile files: an Error that names the place, never a crash, a hang or a wrong vocabulary.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>

#include "base/error.h"
#include "base/files.h"
#include "base/json.h"
#include "tokenizer/tokenizer.h"

namespace mobilellm {
namespace {

using testing::HasSubstr;

const char* const kSmall = R"({
  "added_tokens": [{"id": 4, "content": "<s>", "special": true}],
  "normalizer": null,
  "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "\\d+|\\D+"}, "behavior": "Isolated", "invert": false},
  "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
    "special_tokens": {"<s>": {"id": "<s>", "ids": [4], "tokens": ["<s>"]}}},
  "decoder": {"type": "Fuse"},
  "model": {"type": "BPE", "unk_token": "u", "vocab": {"a": 0, "b": 1, "ab": 2, "u": 3}, "merges": ["a b"]}
})";

std::string replaced(std::string text, std::string_view from, std::string_view to) {
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

void expect_error(const std::string& json, ErrorCode code, const char* part) {
  try {
    load_tokenizer_json_text(json, "broken.json");
    ADD_FAILURE() << "loaded: " << json.substr(0, 200);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    EXPECT_THAT(error.what(), HasSubstr(part));
    EXPECT_THAT(error.what(), HasSubstr("broken.json"));
  }
}

void expect_broken(const char* from, const char* to, ErrorCode code, const char* part) {
  expect_error(replaced(kSmall, from, to), code, part);
}

TEST(LoadTokenizerJson, ReadsTheSmallFile) {
  const auto tokenizer = load_tokenizer_json_text(kSmall, "small.json");
  EXPECT_EQ(tokenizer->encode("abxyb<s>", {.add_special = true}), (std::vector<TokenId>{4, 2, 3, 3, 1, 4}));
  EXPECT_EQ(tokenizer->vocab_size(), 5u);
  EXPECT_EQ(tokenizer->bos_id(), 4);
  EXPECT_TRUE(tokenizer->is_special(4));
  EXPECT_FALSE(tokenizer->is_special(-1) || tokenizer->is_special(1000) || tokenizer->has_token(5));
  EXPECT_EQ(tokenizer->decode(std::vector<TokenId>{-5, 2, 99, 1}), "abb");
  EXPECT_EQ(tokenizer->token_text(99), "");
}

TEST(LoadTokenizerJson, NamesWhatIsWrong) {
  using enum ErrorCode;
  expect_broken(R"("b": 1)", R"("b": 0)", kCorruptData, "id 0 is given to two tokens, \"a\" and \"b\"");
  expect_broken(R"("b": 1)", R"("a": 1)", kCorruptData, "\"a\" appears twice");
  expect_broken(R"("b": 1)", R"("b": -1)", kCorruptData, "has the id -1");
  expect_broken(R"("b": 1)", R"("b": 4194304)", kCorruptData, "expected 0..4194303");
  expect_broken(R"("b": 1)", R"("b": 99999999999999999999)", kCorruptData, "not valid JSON");
  expect_broken(R"("b": 1)", R"("b": 1.5)", kCorruptData, "model.vocab[\"b\"]: expected an integer");
  expect_broken(R"("b": 1)", R"("b": "1")", kCorruptData, "model.vocab[\"b\"]");
  expect_broken(R"(["a b"])", R"(["a c"])", kCorruptData, "model.merges[0]: \"c\" is not in the vocabulary");
  expect_broken(R"(["a b"])", R"([["b", "a"]])", kCorruptData, "model.merges[0]: \"ba\"");
  expect_broken(R"(["a b"])", R"(["ab"])", kCorruptData, "expected two tokens");
  expect_broken(R"(["a b"])", R"(["a b c"])", kCorruptData, "expected two tokens");
  expect_broken(R"(["a b"])", R"([["a"]])", kCorruptData, "model.merges[0]");
  expect_broken(R"(["a b"])", R"([["a", "b", "c"]])", kCorruptData, "model.merges[0]");
  expect_broken(R"(["a b"])", R"([7])", kCorruptData, "model.merges[0]");
  expect_broken(R"(["a b"])", R"({})", kCorruptData, "model.merges: expected an array");
  expect_broken(R"("merges": ["a b"])", R"("merge": [])", kCorruptData, "model.merges");
  expect_broken(R"("unk_token": "u")", R"("unk_token": "?")", kCorruptData, "model.unk_token");
  expect_broken(R"("unk_token": "u")", R"("unk_token": 3)", kCorruptData, "model.unk_token: expected a string");
  expect_broken(R"("unk_token": "u")", R"("dropout": 0.1)", kUnsupported, "model.dropout");
  expect_broken(R"("unk_token": "u")", R"("end_of_word_suffix": "</w>")", kUnsupported, "model.end_of_word_suffix");
  expect_broken(R"("unk_token": "u")", R"("byte_fallback": 1)", kCorruptData, "model.byte_fallback");
  expect_broken(R"("type": "BPE")", R"("type": "Unigram")", kUnsupported, "Unigram");
  expect_broken(R"("model")", R"("models")", kCorruptData, "model: expected an object");
  expect_broken(R"("normalizer": null)", R"("normalizer": {"type": "Magic"})", kUnsupported, "normalizer \"Magic\"");
  expect_broken(R"("normalizer": null)", R"("normalizer": {"type": "Sequence"})", kCorruptData,
                "normalizer.normalizers");
  expect_broken(R"("normalizer": null)", R"("normalizer": {})", kCorruptData, "normalizer.type");
  expect_broken(R"("normalizer": null)", R"("normalizer": 5)", kCorruptData, "normalizer");
  expect_broken(R"("type": "Split")", R"("type": "Splat")", kUnsupported, "pre-tokenizer \"Splat\"");
  expect_broken(R"("Isolated")", R"("Sometimes")", kUnsupported, "pre_tokenizer.behavior");
  expect_broken(R"(\\d+|\\D+)", R"((\\d+)", kCorruptData, "pre_tokenizer.pattern.Regex: not a regular expression");
  expect_broken(R"(\\d+|\\D+)", R"(\\h+)", kUnsupported, "\\h");
  expect_broken(R"(\\d+|\\D+)", R"([a&&b])", kUnsupported, "&&");
  expect_broken(R"({"Regex": "\\d+|\\D+"})", R"({})", kCorruptData, "pre_tokenizer.pattern");
  expect_broken(R"("type": "TemplateProcessing")", R"("type": "Wrap")", kUnsupported, "post-processor \"Wrap\"");
  expect_broken(R"("ids": [4])", R"("ids": [-4])", kCorruptData, "ids");
  expect_broken(R"("ids": [4])", R"("ids": 4)", kCorruptData, "ids");
  expect_broken(R"({"<s>": {)", R"({"<t>": {)", kCorruptData, "special_tokens.<s>");
  expect_broken(R"("type": "Fuse")", R"("type": "CTC")", kUnsupported, "decoder \"CTC\"");
  expect_broken(R"("id": 4, "content": "<s>")", R"("id": 4)", kCorruptData, "added_tokens[0].content");
  expect_broken(R"("id": 4, "content": "<s>")", R"("id": 5000000, "content": "<s>")", kCorruptData,
                "added_tokens[0].id");
  expect_broken(R"("id": 4, "content": "<s>")", R"("id": 1, "content": "<s>")", kCorruptData, "another token there");
  expect_broken(R"("id": 4, "content": "<s>")", R"("id": 4, "content": "ab")", kCorruptData,
                "the vocabulary has it at 2");
  expect_broken(R"("special": true})", R"("special": 1})", kCorruptData, "added_tokens[0].special");
  expect_broken(R"("special": true})", R"("special": true}, {"id": 4, "content": "x"})", kCorruptData,
                "id 4 is given to two tokens");
  expect_broken(R"("special": true})", R"("special": true}, {"id": 5, "content": "<s>"})", kCorruptData,
                "\"<s>\" appears twice");
  expect_error("[]", kCorruptData, "expected a JSON object");
  expect_error("", kCorruptData, "not valid JSON");
  expect_error("\xFF", kCorruptData, "not valid JSON");
}

TEST(LoadTokenizerJson, RefusesEveryTruncation) {
  const std::string text = kSmall;
  for (size_t n = 0; n + 1 < text.size(); ++n) {
    EXPECT_THROW(load_tokenizer_json_text(std::string_view(text).substr(0, n), "broken.json"), Error) << n;
  }
}

TEST(LoadTokenizerJson, RefusesDeepNesting) {
  std::string nested = R"({"type": "NFC"})";
  for (int i = 0; i < 30; ++i) nested = R"({"type": "Sequence", "normalizers": [)" + nested + "]}";
  expect_broken("\"normalizer\": null", ("\"normalizer\": " + nested).c_str(), ErrorCode::kResourceLimit,
                "nested deeper");
  const std::string deep = std::string(100000, '[') + std::string(100000, ']');
  expect_broken("\"normalizer\": null", ("\"normalizer\": " + deep).c_str(), ErrorCode::kCorruptData, "JSON");
}

TEST(LoadTokenizerJson, AllowsHoles) {
  const auto tokenizer = load_tokenizer_json_text(replaced(kSmall, R"("u": 3)", R"("u": 3000)"), "holes.json");
  EXPECT_EQ(tokenizer->vocab_size(), 3001u);
  EXPECT_FALSE(tokenizer->has_token(3));
  EXPECT_EQ(tokenizer->decode(std::vector<TokenId>{3, 2, 2999}), "ab");
}

TEST(LoadTokenizerJson, StopsARunawayExpression) {
  const auto tokenizer = load_tokenizer_json_text(replaced(kSmall, R"(\\d+|\\D+)", R"((a+)+(a+)+(a+)+c)"), "slow.json");
  try {
    tokenizer->encode(std::string(5000, 'a') + "b c");
    ADD_FAILURE() << "no limit was hit";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kResourceLimit);
    EXPECT_THAT(error.what(), HasSubstr("slow.json: pre_tokenizer.pattern.Regex"));
  }
}

TEST(LoadTokenizerJson, LimitsAnExpressionOverTheWholeText) {
  const auto tokenizer = load_tokenizer_json_text(replaced(kSmall, R"(\\d+|\\D+)", "a*b|a"), "slow.json");
  const auto start = std::chrono::steady_clock::now();
  try {
    tokenizer->encode(std::string(300000, 'a'));
    ADD_FAILURE() << "no limit was hit";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kResourceLimit);
    EXPECT_THAT(error.what(), HasSubstr("slow.json: pre_tokenizer.pattern.Regex"));
  }
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
}

TEST(LoadTokenizerJson, MatchesLongPiecesAsOne) {
  // Pieces longer than the first tries, of characters of 3 bytes, cut where only the text's end or a look-ahead tells.
  const auto tokenizer = load_tokenizer_json_text(
      replaced(kSmall, R"("normalizer": null)",
               R"("normalizer": {"type": "Replace", "pattern": {"Regex": "\u20ac+(?!\u20ac)|$"}, "content": "b"})"),
      "long.json");
  std::string run;
  for (int i = 0; i < 5000; ++i) {
    run += "\xE2\x82\xAC";
    if (i % 97 != 0) continue;
    // "bab" and, where the end matches, "a...ab"; the vocabulary merges "ab".
    EXPECT_EQ(tokenizer->encode(run + "a" + run), (std::vector<TokenId>{1, 2})) << i;
    std::vector<TokenId> expected(i, 0);
    expected.push_back(2);
    EXPECT_EQ(tokenizer->encode(std::string(i + 1, 'a')), expected) << i;
  }
}

TEST(LoadTokenizerJson, StopsAGrowingText) {
  std::string steps;
  for (int i = 0; i < 20; ++i) {
    steps += fmt::format(R"({}{{"type": "Replace", "pattern": {{"String": "i"}}, "content": "{}"}})", i > 0 ? "," : "",
                         std::string(1000, 'i'));
  }
  const auto tokenizer =
      load_tokenizer_json_text(replaced(kSmall, R"("normalizer": null)",
                                        R"("normalizer": {"type": "Sequence", "normalizers": [)" + steps + "]}"),
                               "growing.json");
  try {
    tokenizer->encode("hi");
    ADD_FAILURE() << "no limit was hit";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kResourceLimit);
    EXPECT_THAT(error.what(), HasSubstr("[tokenizer] normalizer: the text grows from 2 to more than 67108864 bytes"));
  }
}

TEST(LoadTokenizerJson, StaysFastWithManyAddedTokens) {
  std::string added;
  for (int i = 0; i < 100000; ++i)
    added += fmt::format(R"({{"id": {}, "content": "<t{}>", "special": true}},)", 10 + i, i);
  const auto start = std::chrono::steady_clock::now();
  const auto tokenizer =
      load_tokenizer_json_text(replaced(kSmall, R"([{"id": 4)", "[" + added + R"({"id": 4)"), "many.json");
  std::string text;
  for (int i = 0; i < 100000; ++i) text += "a<t5><t99999>";
  EXPECT_EQ(tokenizer->encode(text).size(), 300000u);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
}

TEST(LoadTiktoken, RefusesBrokenLines) {
  const auto expect_line_error = [](std::string_view text, const char* part) {
    try {
      load_tiktoken_text(text, "broken.model");
      ADD_FAILURE() << text;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kCorruptData);
      EXPECT_THAT(error.what(), HasSubstr(part));
      EXPECT_THAT(error.what(), HasSubstr("broken.model"));
    }
  };
  expect_line_error("", "no tokens");
  expect_line_error("YQ== 0\nYg==\n", "line 2");
  expect_line_error("YQ== 0\nYg 1\n", "line 2");
  expect_line_error("YQ== 0\nY*== 1\n", "line 2");
  expect_line_error("YQ== -1\n", "line 1");
  expect_line_error("YQ== 99999999999\n", "line 1");
  expect_line_error("YQ== 0\nYg== 0\n", "id 0 is given to two tokens");
  expect_line_error("YQ== 0\nYQ== 1\n", "appears twice");
  expect_line_error("YQ== 4194303\n", "no ids left");
  const auto tokenizer = load_tiktoken_text("YQ== 0\r\nYg== 1\r\nYWI= 2\r\n", "small.model");
  EXPECT_EQ(tokenizer->encode("ab<|eot_id|>", {.add_special = true}), (std::vector<TokenId>{3, 2, 12}));
}

GgufVocab small_gguf() {
  GgufVocab vocab;
  vocab.model = "gpt2";
  vocab.pre = "gpt-2";
  vocab.tokens = {"a", "b", "ab", "<s>"};
  vocab.token_types = {1, 1, 1, 3};
  vocab.merges = {"a b"};
  vocab.bos_id = 3;
  return vocab;
}

void expect_gguf_error(const GgufVocab& vocab, ErrorCode code, const char* part) {
  try {
    load_gguf_vocab(vocab, "broken.gguf");
    ADD_FAILURE() << part;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    EXPECT_THAT(error.what(), HasSubstr(part));
    EXPECT_THAT(error.what(), HasSubstr("broken.gguf"));
  }
}

TEST(LoadGguf, ChecksItsKeys) {
  EXPECT_EQ(load_gguf_vocab(small_gguf(), "x")->encode("ab<s>"), (std::vector<TokenId>{2, 3}));
  GgufVocab vocab = small_gguf();
  vocab.add_bos = true;
  EXPECT_EQ(load_gguf_vocab(vocab, "x")->encode("ab", {.add_special = true}), (std::vector<TokenId>{3, 2}));
  vocab.bos_id = 4;
  expect_gguf_error(vocab, ErrorCode::kCorruptData, "tokenizer.ggml.bos_token_id: got 4");
  vocab = small_gguf();
  vocab.pre = "unheard-of";
  expect_gguf_error(vocab, ErrorCode::kUnsupported, "tokenizer.ggml.pre \"unheard-of\"");
  vocab = small_gguf();
  vocab.model = "bert";
  expect_gguf_error(vocab, ErrorCode::kUnsupported, "tokenizer.ggml.model \"bert\"");
  vocab = small_gguf();
  vocab.token_types.pop_back();
  expect_gguf_error(vocab, ErrorCode::kCorruptData, "tokenizer.ggml.token_type: 3 values for 4 tokens");
  vocab = small_gguf();
  vocab.tokens.clear();
  expect_gguf_error(vocab, ErrorCode::kCorruptData, "tokenizer.ggml.tokens");
  vocab = small_gguf();
  vocab.merges = {"a c"};
  expect_gguf_error(vocab, ErrorCode::kCorruptData, "\"c\" is not in the vocabulary");
  vocab = small_gguf();
  vocab.model = "llama";
  expect_gguf_error(vocab, ErrorCode::kCorruptData, "tokenizer.ggml.scores: 0 values for 4 tokens");
}

// Tokens so long that looking at every split would take minutes.
TEST(LoadGguf, RefusesHugeTokensWithoutMerges) {
  GgufVocab vocab;
  vocab.model = "llama";
  vocab.tokens = {std::string(100000, 'a')};
  vocab.scores = {0};
  expect_gguf_error(vocab, ErrorCode::kResourceLimit, "too long");
}

/// Protobuf of one piece.
std::string piece(std::string_view text, float score, int type) {
  std::string body = "\x0A" + std::string(1, static_cast<char>(text.size())) + std::string(text) + "\x15";
  body.append(reinterpret_cast<const char*>(&score), 4);
  body += std::string("\x18") + static_cast<char>(type);
  return "\x0A" + std::string(1, static_cast<char>(body.size())) + body;
}

std::string small_sentencepiece() {
  const std::string_view space = "\xE2\x96\x81";
  std::string model = piece("<unk>", 0, 2) + piece("<s>", 0, 3) + piece("</s>", 0, 3) + piece("ab", -1, 1) +
                      piece(std::string(space) + "ab", -2, 1) + piece("a", -3, 1) + piece("b", -4, 1) +
                      piece(space, -5, 1);
  model += std::string("\x12\x02\x18\x02", 4);          // trainer: BPE
  model += std::string("\x1A\x04\x18\x01\x20\x00", 6);  // normalizer: prefix, spaces kept
  return model;
}

TEST(LoadSentencePiece, ReadsABpeModel) {
  const auto tokenizer = load_sentencepiece_bytes(small_sentencepiece(), "small.model");
  EXPECT_EQ(tokenizer->encode("ab a<s>", {.add_special = true}), (std::vector<TokenId>{1, 4, 7, 5, 1}));
  EXPECT_EQ(tokenizer->decode(std::vector<TokenId>{4, 7, 5}), "ab a");
  EXPECT_EQ(tokenizer->token_bytes(4), " ab");
}

TEST(LoadSentencePiece, RefusesBrokenModels) {
  const std::string model = small_sentencepiece();
  for (size_t n = 0; n < model.size(); ++n) {
    EXPECT_THROW(load_sentencepiece_bytes(std::string_view(model).substr(0, n), "cut"), Error) << n;
  }
  EXPECT_THROW(load_sentencepiece_bytes(
                   replaced(model, std::string("\x12\x02\x18\x02", 4), std::string("\x12\x02\x18\x01", 4)), "unigram"),
               Error);
  EXPECT_THROW(load_sentencepiece_bytes(std::string(11, '\xFF'), "varint"), Error);
}

TEST(LoadTokenizer, NamesMissingFiles) {
  EXPECT_THROW(load_tokenizer_json("/nowhere/tokenizer.json"), Error);
  EXPECT_THROW(load_tokenizer_model("/nowhere/tokenizer.model"), Error);
  EXPECT_THROW(load_tokenizer_json("/"), Error);
}

}  // namespace
}  // namespace mobilellm
