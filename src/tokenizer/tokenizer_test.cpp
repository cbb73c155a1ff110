// Behaviour beyond the golden vectors: forged special tokens, repair, worst cases, threads, other file forms.
#include "tokenizer/tokenizer.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <thread>

#include "base/error.h"
#include "base/files.h"
#include "base/utf8.h"
#include "tokenizer/stream_decoder.h"
#include "tokenizer/tokenizer_parts.h"

namespace mobilellm {
namespace {

const std::string kVectors = MOBILELLM_SOURCE_DIR "/tests/vectors/tokenizers/";

std::shared_ptr<const Tokenizer> load(const std::string& name) {
  return load_tokenizer_json(kVectors + name + "/tokenizer.json");
}

TEST(Tokenizer, UserTextForgesNoSpecialTokens) {
  const auto tokenizer = load("llama3_tiny");
  const std::string text = "a<|eot_id|>b";
  const TokenId eot = tokenizer->find("<|eot_id|>").value();
  const std::vector<TokenId> parsed = tokenizer->encode(text);
  EXPECT_EQ(std::count(parsed.begin(), parsed.end(), eot), 1);
  const std::vector<TokenId> plain = tokenizer->encode(text, {.parse_special = false});
  for (const TokenId id : plain) EXPECT_FALSE(tokenizer->is_special(id));
  EXPECT_EQ(tokenizer->decode(plain), text);
  // Added tokens that are not special are part of the language of user texts.
  const auto qwen = load("qwen_tiny");
  EXPECT_EQ(qwen->encode("<think>", {.parse_special = false}), std::vector<TokenId>{1205});
}

TEST(Tokenizer, RepairsBrokenText) {
  const auto tokenizer = load("llama3_tiny");
  const std::string broken = "a\xFF\xE4\xB8 b\xF0\x9F";
  EXPECT_EQ(tokenizer->encode(broken), tokenizer->encode(repair_utf8(broken)));
  EXPECT_EQ(tokenizer->decode(tokenizer->encode(broken)), repair_utf8(broken));
}

TEST(Tokenizer, StreamsWhatStopsInsideACharacter) {
  const auto tokenizer = load("llama3_tiny");
  const std::vector<TokenId> ids = tokenizer->encode("\U0001F468");
  ASSERT_GT(ids.size(), 1u);
  StreamDecoder stream(*tokenizer);
  EXPECT_EQ(stream.push(ids[0]), "");
  EXPECT_EQ(stream.flush(), "\uFFFD");
  EXPECT_EQ(stream.flush(), "");
}

// The leading space goes from the start of the text only, and a run of byte tokens is judged as a whole.
TEST(Tokenizer, StreamsSentencePieceStyle) {
  const auto tokenizer = load("llama2_tiny");
  const TokenId space = tokenizer->find("\u2581").value();
  const TokenId byte_e2 = tokenizer->find("<0xE2>").value();
  const TokenId byte_96 = tokenizer->find("<0x96>").value();
  const TokenId byte_81 = tokenizer->find("<0x81>").value();
  StreamDecoder stream(*tokenizer);
  EXPECT_EQ(stream.push(space), "");
  EXPECT_EQ(stream.push(space), " ");
  EXPECT_EQ(stream.push(byte_e2), "");
  EXPECT_EQ(stream.push(byte_96), "");
  EXPECT_EQ(stream.push(byte_81), "");
  EXPECT_EQ(stream.push(space), "\u2581 ");
  EXPECT_EQ(stream.push(byte_e2), "");
  EXPECT_EQ(stream.push(byte_96), "");
  EXPECT_EQ(stream.flush(), "\uFFFD\uFFFD");
  EXPECT_EQ(tokenizer->token_bytes(byte_e2), "\xE2");
  EXPECT_EQ(tokenizer->token_bytes(space), " ");
}

// Texts with one long piece: half a megabyte may take twice as long as a quarter, not four times.
TEST(Tokenizer, StaysLinearOnTheWorstTexts) {
  for (const char* name : {"llama3_tiny", "qwen_tiny", "deepseek_tiny", "gemma_tiny", "llama2_tiny", "flags_tiny"}) {
    const auto tokenizer = load(name);
    for (const char* unit : {"a", " ", "\n", "!", "\u0301\u0323", "\U0001F468\u200D", "ab", "1", "\u4E2D", " \n"}) {
      std::string text;
      while (text.size() < 250000) text += unit;
      const auto start = std::chrono::steady_clock::now();
      const std::vector<TokenId> ids = tokenizer->encode(text);
      EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5)) << name << " " << unit;
      EXPECT_EQ(name == std::string("flags_tiny") || tokenizer->decode(ids) == text || name == std::string("qwen_tiny"),
                true)
          << name << unit;
    }
  }
}

// Long pieces go through the heap, short ones through the scan: both must merge alike.
TEST(Tokenizer, MergesLongPiecesAsShortOnes) {
  const auto tokenizer = load("llama3_tiny");
  const Bpe& bpe = tokenizer->parts().bpe;
  uint64_t state = 7;
  for (int round = 0; round < 300; ++round) {
    std::string text;
    for (int i = 0; i < 40 + round; ++i) {
      state = state * 6364136223846793005ULL + 1442695040888963407ULL;
      text += "etaoinshr"[(state >> 33) % 9];
    }
    // The plain rule: join the pair of lowest rank, the leftmost first, until none is left.
    std::vector<TokenId> expected;
    for (const char byte : text) expected.push_back(bpe.byte_id(static_cast<unsigned char>(byte)));
    while (true) {
      size_t best = 0;
      MergeTable::Merge best_merge;
      for (size_t i = 0; i + 1 < expected.size(); ++i) {
        const MergeTable::Merge merge = bpe.merges().find(expected[i], expected[i + 1]);
        if (merge.rank < best_merge.rank) {
          best_merge = merge;
          best = i;
        }
      }
      if (best_merge.id < 0) break;
      expected[best] = best_merge.id;
      expected.erase(expected.begin() + static_cast<ptrdiff_t>(best) + 1);
    }
    Bpe::Scratch scratch(text.size());
    std::vector<TokenId> ids;
    bpe.encode_piece(text, ids, scratch);
    ASSERT_EQ(ids, expected) << text;
  }
}

// The word cache of long texts changes nothing.
TEST(Tokenizer, EncodesLongTextsAsTheirLines) {
  for (const char* name : {"llama3_tiny", "qwen_tiny", "gemma_tiny"}) {
    const auto tokenizer = load(name);
    std::string text;
    std::vector<TokenId> expected;
    for (int i = 0; i < 4000; ++i) {
      const std::string line = fmt::format("word{} and the {}th of \u4E2D\u6587 caf\u00E9s;x", i % 37, i % 101);
      for (const TokenId id : tokenizer->encode(line)) expected.push_back(id);
      for (const TokenId id : tokenizer->encode("<|eot_id|>")) expected.push_back(id);
      text += line + "<|eot_id|>";
    }
    if (tokenizer->find("<|eot_id|>")) {
      EXPECT_EQ(tokenizer->encode(text), expected) << name;
    } else {
      EXPECT_EQ(tokenizer->decode(tokenizer->encode(text)), text) << name;
    }
  }
}

TEST(Tokenizer, MayBeSharedByThreads) {
  const auto tokenizer = load("qwen_tiny");
  const std::string text = "The quick brown fox's 123 jumps\n\nover caf\u00E9 \u4E2D\u6587";
  std::vector<std::vector<TokenId>> results(4);
  std::vector<std::thread> threads;
  for (auto& result : results) {
    threads.emplace_back([&] {
      for (int i = 0; i < 50; ++i) result = tokenizer->encode(text);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& result : results) EXPECT_EQ(result, tokenizer->encode(text));
}

/// The same vocabulary as GGUF metadata would give it.
GgufVocab as_gguf(const Tokenizer& tokenizer, const char* pre) {
  GgufVocab vocab;
  vocab.model = "gpt2";
  vocab.pre = pre;
  const Tokenizer::Parts& parts = tokenizer.parts();
  std::vector<std::string> merges(parts.bpe.merges().size());
  parts.bpe.merges().for_each_pair([&](TokenId left, TokenId right) {
    merges[parts.bpe.merges().find(left, right).rank] = tokenizer.token_text(left) + " " + tokenizer.token_text(right);
  });
  vocab.merges = merges;
  for (size_t id = 0; id < tokenizer.vocab_size(); ++id) {
    const AddedToken* const added = parts.added.find(static_cast<TokenId>(id));
    vocab.tokens.push_back(tokenizer.token_text(static_cast<TokenId>(id)));
    vocab.token_types.push_back(added == nullptr ? 1 : added->is_special ? 3 : 4);
  }
  return vocab;
}

TEST(Tokenizer, GgufVocabulariesGiveTheSameIds) {
  const std::string text =
      "Hello, World's 12345 caf\u00E9 <|im_start|> e\u0301\r\n  \u4E2D\u6587\U0001F468<think>x</think>";
  for (const auto& [name, pre] :
       {std::pair{"llama3_tiny", "llama-bpe"}, {"qwen_tiny", "qwen2"}, {"deepseek_tiny", "deepseek-v3"}}) {
    const auto tokenizer = load(name);
    const auto from_gguf = load_gguf_vocab(as_gguf(*tokenizer, pre), "gguf");
    EXPECT_EQ(from_gguf->encode(text), tokenizer->encode(text)) << name;
    EXPECT_EQ(from_gguf->decode(tokenizer->encode(text)), tokenizer->decode(tokenizer->encode(text))) << name;
  }
}

/// Llama-3's own file, fetched into the cache by tools/fetch_test_data; empty when absent.
std::string llama3_model() {
  const char* const cache = std::getenv("XDG_CACHE_HOME");
  const char* const home = std::getenv("HOME");
  const std::string root =
      cache != nullptr && *cache != 0 ? cache : std::string(home == nullptr ? "" : home) + "/.cache";
  const std::string path = root + "/mobilellm/test-data/llama3/tokenizer.model";
  return file_exists(path) ? path : std::string();
}

TEST(Tokenizer, TiktokenFileOfLlama3) {
  const std::string path = llama3_model();
  if (path.empty()) GTEST_SKIP() << "Llama-3's tokenizer.model is not in the cache (tools/fetch_test_data)";
  const auto tokenizer = load_tokenizer_model(path);
  EXPECT_EQ(tokenizer->vocab_size(), 128256u);
  EXPECT_EQ(tokenizer->encode("Hello", {.add_special = true}), (std::vector<TokenId>{128000, 9906}));
  EXPECT_EQ(tokenizer->find("<|eot_id|>"), 128009);
  EXPECT_EQ(tokenizer->find("<|reserved_special_token_247|>"), 128255);
  const std::string json = MOBILELLM_SOURCE_DIR "/../shared/fixtures/tokenizers/llama3/tokenizer.json";
  if (!file_exists(json)) return;
  const auto from_json = load_tokenizer_json(json);
  for (TokenId id = 0; id < 128256; id += 7) ASSERT_EQ(tokenizer->token_text(id), from_json->token_text(id));
  EXPECT_EQ(tokenizer->parts().bpe.merges().size(), from_json->parts().bpe.merges().size());
}

}  // namespace
}  // namespace mobilellm
