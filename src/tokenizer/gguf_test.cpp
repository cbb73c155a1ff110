// The real SmolLM2 GGUF gives the ids of the golden vectors of its tokenizer.json.
#include "formats/gguf.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "base/files.h"
#include "base/json.h"
#include "tokenizer/tokenizer.h"

namespace mobilellm {
namespace {

std::string find_model() {
  if (const char* const path = std::getenv("MOBILELLM_TEST_GGUF"); path != nullptr && *path != 0) return path;
  const char* const cache = std::getenv("XDG_CACHE_HOME");
  const char* const home = std::getenv("HOME");
  const std::string root =
      cache != nullptr && *cache != 0 ? cache : std::string(home == nullptr ? "" : home) + "/.cache";
  for (const char* const folder : {"/mobilellm/models/", "/mobilellm/"}) {
    const std::string path = root + folder + "SmolLM2-135M-Instruct.Q4_1.gguf";
    if (file_exists(path)) return path;
  }
  return {};
}

TEST(GgufVocabulary, SmolLm2GivesTheGoldenIds) {
  const std::string path = find_model();
  if (path.empty()) GTEST_SKIP() << "SmolLM2-135M-Instruct.Q4_1.gguf is not in the cache (tools/fetch_default_model)";
  const std::string golden = MOBILELLM_SOURCE_DIR "/../shared/fixtures/tokenizers/smollm2/encode.jsonl";
  if (!file_exists(golden)) GTEST_SKIP() << "the golden ids of smollm2 are not beside this repository";

  const auto file = GgufFile::open(path);
  GgufVocab vocab;
  vocab.model = file->get_string("tokenizer.ggml.model");
  vocab.pre = file->get_string("tokenizer.ggml.pre");
  for (const std::string_view token : file->get_strings("tokenizer.ggml.tokens")) vocab.tokens.emplace_back(token);
  for (const std::string_view merge : file->get_strings("tokenizer.ggml.merges")) vocab.merges.emplace_back(merge);
  for (const int64_t type : file->get_ints("tokenizer.ggml.token_type")) {
    vocab.token_types.push_back(static_cast<int32_t>(type));
  }
  const auto tokenizer = load_gguf_vocab(std::move(vocab), path);

  std::ifstream lines(golden);
  size_t n_lines = 0;
  for (std::string line; std::getline(lines, line); ++n_lines) {
    const Json value = Json::parse(line, golden);
    std::vector<TokenId> ids;
    for (const Json& id : value.find("ids")->as_array()) ids.push_back(static_cast<TokenId>(id.as_int()));
    EXPECT_EQ(tokenizer->encode(value.find("text")->as_string()), ids) << line.substr(0, 200);
    EXPECT_EQ(tokenizer->encode(value.find("text")->as_string(), {.add_special = true}), ids);
  }
  EXPECT_GT(n_lines, 100u);
}

}  // namespace
}  // namespace mobilellm
