// Golden vectors: ids, texts, pairs and streamed pieces must equal the reference exactly.
#include <gtest/gtest.h>

#include <fstream>

#include "base/error.h"
#include "base/files.h"
#include "base/json.h"
#include "tokenizer/stream_decoder.h"
#include "tokenizer/tokenizer.h"

namespace mobilellm {
namespace {

/// Folder of a vocabulary: in the repository, or beside it for those that are not ours to copy. Empty when absent.
std::string find_folder(const std::string& name) {
  for (const char* root :
       {MOBILELLM_SOURCE_DIR "/tests/vectors/tokenizers/", MOBILELLM_SOURCE_DIR "/../shared/fixtures/tokenizers/"}) {
    if (file_exists(root + name + "/tokenizer.json")) return root + name;
  }
  return {};
}

std::vector<Json> read_lines(const std::string& path) {
  std::ifstream file(path);
  std::vector<Json> lines;
  for (std::string line; std::getline(file, line);) {
    if (!line.empty()) lines.push_back(Json::parse(line, path));
  }
  return lines;
}

std::vector<TokenId> to_ids(const Json& value) {
  std::vector<TokenId> ids;
  for (const Json& id : value.as_array()) ids.push_back(static_cast<TokenId>(id.as_int()));
  return ids;
}

std::string text_or(const Json& line, const char* key, const std::string& other) {
  const Json* const value = line.find(key);
  return value == nullptr ? other : value->as_string();
}

class GoldenTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    folder_ = find_folder(GetParam());
    if (folder_.empty()) GTEST_SKIP() << "the vocabulary " << GetParam() << " is not beside this repository";
    tokenizer_ = load_tokenizer_json(folder_ + "/tokenizer.json");
  }
  std::string folder_;
  std::shared_ptr<const Tokenizer> tokenizer_;
};

TEST_P(GoldenTest, EncodesAndDecodes) {
  const std::vector<Json> lines = read_lines(folder_ + "/encode.jsonl");
  ASSERT_FALSE(lines.empty());
  for (const Json& line : lines) {
    const std::string& text = line.find("text")->as_string();
    const std::vector<TokenId> ids = to_ids(*line.find("ids"));
    const std::vector<TokenId> ids_special = to_ids(*line.find("ids_special"));
    EXPECT_EQ(tokenizer_->encode(text), ids) << testing::PrintToString(text.substr(0, 200));
    EXPECT_EQ(tokenizer_->encode(text, {.add_special = true}), ids_special) << text.substr(0, 200);
    EXPECT_EQ(tokenizer_->decode(ids, false), text_or(line, "decoded", text));
    EXPECT_EQ(tokenizer_->decode(ids_special, true), text_or(line, "decoded_skip", text));
  }
}

// Whatever the decoder, streaming gives the whole decode in whole characters.
TEST_P(GoldenTest, StreamingEqualsDecode) {
  for (const Json& line : read_lines(folder_ + "/encode.jsonl")) {
    const std::vector<TokenId> ids = to_ids(*line.find("ids_special"));
    for (const bool skip_special : {false, true}) {
      StreamDecoder stream(*tokenizer_, skip_special);
      std::string text;
      for (const TokenId id : ids) text += stream.push(id);
      text += stream.flush();
      EXPECT_EQ(text, tokenizer_->decode(ids, skip_special));
    }
  }
}

TEST_P(GoldenTest, EncodesPairs) {
  for (const std::string& path : {find_folder("llama3_tiny") + "/../pairs.jsonl"}) {
    for (const Json& line : read_lines(path)) {
      if (line.find("tokenizer")->as_string() != GetParam()) continue;
      const PairEncoding pair =
          tokenizer_->encode_pair(line.find("a")->as_string(), line.find("b")->as_string(), {.add_special = true});
      EXPECT_EQ(pair.ids, to_ids(*line.find("ids")));
      EXPECT_EQ(pair.type_ids, to_ids(*line.find("type_ids")));
    }
  }
}

TEST_P(GoldenTest, StreamsPieces) {
  const std::string path = folder_ + "/stream.jsonl";
  if (!file_exists(path)) GTEST_SKIP() << "no streamed pieces for this vocabulary";
  for (const Json& line : read_lines(path)) {
    StreamDecoder stream(*tokenizer_, false);
    std::vector<std::string> pieces;
    std::string bytes;
    for (const TokenId id : to_ids(*line.find("ids"))) {
      pieces.push_back(stream.push(id));
      bytes += tokenizer_->token_bytes(id);
    }
    pieces.push_back(stream.flush());
    std::vector<std::string> expected;
    for (const Json& piece : line.find("pieces")->as_array()) expected.push_back(piece.as_string());
    EXPECT_EQ(pieces, expected);
    std::string hex;
    for (const char byte : bytes) hex += fmt::format("{:02x}", static_cast<unsigned char>(byte));
    EXPECT_EQ(hex, line.find("bytes_hex")->as_string());
  }
}

// Every token is found by its text, and its text is its own.
TEST_P(GoldenTest, FindsEveryToken) {
  for (size_t i = 0; i < tokenizer_->vocab_size(); ++i) {
    const auto id = static_cast<TokenId>(i);
    if (!tokenizer_->has_token(id)) continue;
    ASSERT_EQ(tokenizer_->find(tokenizer_->token_text(id)), id) << tokenizer_->token_text(id);
  }
}

INSTANTIATE_TEST_SUITE_P(Vocabularies, GoldenTest,
                         testing::Values("llama3", "smollm2", "llama3_tiny", "qwen_tiny", "deepseek_tiny", "gemma_tiny",
                                         "llama2_tiny", "metaspace_tiny", "flags_tiny"),
                         [](const auto& param_info) { return std::string(param_info.param); });

}  // namespace
}  // namespace mobilellm
