// Tests of vocabularies on their way to GGUF keys and back to tokenizer.json.
#include "tokenizer/export.h"

#include <gtest/gtest.h>

#include "base/files.h"
#include "base/json.h"
#include "tests/support/scratch_folder.h"

namespace mobilellm {
namespace {

std::string vectors(const std::string& name) { return MOBILELLM_SOURCE_DIR "/tests/vectors/tokenizers/" + name; }

std::shared_ptr<const Tokenizer> load(const std::string& name) {
  return load_tokenizer_json(vectors(name) + "/tokenizer.json");
}

struct Expected {
  const char* name;
  const char* model;
  const char* pre;
  bool adds_bos;
};

TEST(Export, RoundTripsByteLevelAndSentencePieceVocabularies) {
  const Expected cases[] = {{"llama3_tiny", "gpt2", "llama-bpe", true},
                            {"qwen_tiny", "gpt2", "qwen2", false},
                            {"deepseek_tiny", "gpt2", "deepseek-v3", true},
                            {"llama2_tiny", "llama", "default", true}};
  for (const Expected& c : cases) {
    const auto tokenizer = load(c.name);
    const std::optional<GgufVocab> vocab = make_gguf_vocab(*tokenizer, tokenizer->vocab_size() + 3);
    ASSERT_TRUE(vocab.has_value()) << c.name;
    EXPECT_EQ(vocab->model, c.model);
    EXPECT_EQ(vocab->pre, c.pre);
    EXPECT_EQ(vocab->add_bos, c.adds_bos) << c.name;
    EXPECT_EQ(vocab->tokens.size(), tokenizer->vocab_size() + 3);
    EXPECT_EQ(vocab->tokens.back(), "[PAD" + std::to_string(vocab->tokens.size() - 1) + "]");
    EXPECT_EQ(vocab->token_types.back(), 5);

    const auto from_gguf = load_gguf_vocab(*vocab, "gguf");
    const auto from_json = load_tokenizer_json_text(make_tokenizer_json(*vocab, "gguf"), "json");
    EXPECT_EQ(from_json->vocab_size(), tokenizer->vocab_size());
    // The reference's texts, which the search for a split rule does not use.
    const std::string lines = read_file(vectors(c.name) + "/encode.jsonl", size_t{64} << 20);
    size_t n_texts = 0;
    for (size_t begin = 0; begin < lines.size();) {
      const size_t end = std::min(lines.find('\n', begin), lines.size());
      const Json line = Json::parse(std::string_view(lines).substr(begin, end - begin), "encode.jsonl");
      begin = end + 1;
      const Json* text = line.find("text");
      if (text == nullptr) continue;
      ++n_texts;
      const std::vector<TokenId> ids = tokenizer->encode(text->as_string(), {.add_special = true});
      EXPECT_EQ(from_gguf->encode(text->as_string(), {.add_special = true}), ids) << c.name << text->dump();
      EXPECT_EQ(from_json->encode(text->as_string(), {.add_special = true}), ids) << c.name << text->dump();
      EXPECT_EQ(from_json->decode(ids), tokenizer->decode(ids));
    }
    EXPECT_GT(n_texts, 100u);
  }
}

TEST(Export, AdmitsWhatTheKeysCannotExpress) {
  for (const char* name : {"flags_tiny", "metaspace_tiny"}) {
    const auto tokenizer = load(name);
    EXPECT_FALSE(make_gguf_vocab(*tokenizer, tokenizer->vocab_size()).has_value()) << name;
    EXPECT_EQ(make_nearest_gguf_vocab(*tokenizer, 0).tokens.size(), tokenizer->vocab_size());
  }
}

TEST(Export, WritesWhatOtherProgramsRead) {
  GgufVocab vocab;
  vocab.model = "gpt2";
  vocab.pre = "smollm";
  vocab.tokens = {"<s>", "a", "b", "ab", "\"", "<tool>", "[PAD6]"};
  vocab.token_types = {3, 1, 1, 1, 1, 4, 5};
  vocab.merges = {"a b"};
  vocab.bos_id = 0;
  vocab.eos_id = 0;
  vocab.add_bos = true;
  const Json json = Json::parse(make_tokenizer_json(vocab, "x"), "tokenizer.json");
  const Json& model = *json.find("model");
  EXPECT_EQ(model.find("type")->as_string(), "BPE");
  EXPECT_EQ(model.find("vocab")->dump(), R"({"<s>":0,"a":1,"b":2,"ab":3,"\"":4,"<tool>":5})");
  EXPECT_EQ(model.find("merges")->dump(), R"([["a","b"]])");
  EXPECT_EQ(json.find("added_tokens")->as_array().size(), 2u);
  EXPECT_TRUE(json.find("added_tokens")->as_array()[0].find("special")->as_bool());
  EXPECT_FALSE(json.find("added_tokens")->as_array()[1].find("special")->as_bool());
  EXPECT_EQ(json.find("pre_tokenizer")->find("pretokenizers")->as_array()[0].find("type")->as_string(), "Digits");
  EXPECT_EQ(json.find("post_processor")->find("type")->as_string(), "TemplateProcessing");
}

TEST(Export, RefusesBrokenVocabularies) {
  GgufVocab vocab;
  vocab.model = "gpt2";
  vocab.pre = "martian";
  vocab.tokens = {"a", "b"};
  expect_error(ErrorCode::kUnsupported, {"martian"}, [&] { (void)make_tokenizer_json(vocab, "x.gguf"); });
  vocab.pre = "qwen2";
  vocab.merges = {"ab"};
  expect_error(ErrorCode::kCorruptData, {"merges", "ab"}, [&] { (void)make_tokenizer_json(vocab, "x.gguf"); });
  vocab.merges = {};
  vocab.add_bos = true;
  vocab.bos_id = 7;
  expect_error(ErrorCode::kCorruptData, {"7"}, [&] { (void)make_tokenizer_json(vocab, "x.gguf"); });
  vocab.bos_id = 0;
  vocab.model = "llama";
  expect_error(ErrorCode::kCorruptData, {"scores"}, [&] { (void)make_tokenizer_json(vocab, "x.gguf"); });
  vocab.model = "bert";
  expect_error(ErrorCode::kUnsupported, {"bert"}, [&] { (void)make_tokenizer_json(vocab, "x.gguf"); });
}

TEST(Export, FindsDifferences) {
  const auto a = load("llama3_tiny");
  EXPECT_FALSE(first_encoding_difference(*a, *load("llama3_tiny")));
  EXPECT_TRUE(first_encoding_difference(*a, *load("qwen_tiny")));
}

}  // namespace
}  // namespace mobilellm
