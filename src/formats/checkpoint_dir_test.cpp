// Model folders: which file wins, which may lack, and what the errors say.
#include "formats/checkpoint_dir.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>

#include "base/mapped_file.h"
#include "tests/support/scratch_folder.h"

namespace mobilellm {
namespace {

// A safetensors file with one tensor of one byte.
std::string weights(const std::string& tensor) {
  const std::string header = R"({")" + tensor + R"(":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})";
  const uint64_t n = header.size();
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &n, 8);
  return bytes + header + "x";
}

// A GGUF file without keys and tensors.
std::string empty_gguf() { return std::string("GGUF\x03\0\0\0", 8) + std::string(16, '\0'); }

class CheckpointFolder : public ::testing::Test {
 protected:
  ScratchFolder folder_;
  CheckpointDir open(WeightsNeed need = WeightsNeed::kRequired) const { return open_checkpoint(folder_.path(), need); }
  void expect_refused(ErrorCode code, std::initializer_list<std::string> parts,
                      WeightsNeed need = WeightsNeed::kRequired) const {
    expect_error(code, parts, [&] { open(need); });
    expect_error(code, {folder_.path()}, [&] { open(need); });
  }
};

TEST_F(CheckpointFolder, FindsAllParts) {
  folder_.write("config.json", R"({"model_type":"x"})");
  folder_.write("model.safetensors", weights("a"));
  folder_.write("generation_config.json", R"({"eos_token_id":1})");
  folder_.write("tokenizer_config.json", R"({"bos_token":"<s>"})");
  folder_.write("special_tokens_map.json", "{}");
  for (const char* name : {"tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt", "chat_template.jinja",
                           "chat_template.json", "qwen.tiktoken"}) {
    folder_.write(name, "");
  }
  const CheckpointDir model = open();
  EXPECT_EQ(model.path, folder_.path());
  EXPECT_EQ(model.config.find("model_type")->as_string(), "x");
  EXPECT_EQ(model.config_path, folder_ / "config.json");
  EXPECT_EQ(model.generation_config.find("eos_token_id")->as_int(), 1);
  EXPECT_EQ(model.tokenizer_config.find("bos_token")->as_string(), "<s>");
  EXPECT_TRUE(model.special_tokens_map.is_object());
  EXPECT_EQ(model.tokenizer_json_path, folder_ / "tokenizer.json");
  EXPECT_EQ(model.tokenizer_model_path, folder_ / "tokenizer.model");
  EXPECT_EQ(model.vocab_json_path, folder_ / "vocab.json");
  EXPECT_EQ(model.merges_path, folder_ / "merges.txt");
  EXPECT_EQ(model.chat_template_path, folder_ / "chat_template.jinja");
  EXPECT_EQ(model.chat_template_json_path, folder_ / "chat_template.json");
  EXPECT_EQ(model.tiktoken_path, folder_ / "qwen.tiktoken");
  EXPECT_NE(model.weights->find("a"), nullptr);
  EXPECT_FALSE(model.is_gguf());
}

TEST_F(CheckpointFolder, AbsentPartsAreEmpty) {
  folder_.write("config.json", "{}");
  folder_.write("model.safetensors", weights("a"));
  const CheckpointDir model = open();
  EXPECT_TRUE(model.generation_config.is_null());
  EXPECT_TRUE(model.tokenizer_json_path.empty());
  EXPECT_TRUE(model.tiktoken_path.empty());
}

TEST_F(CheckpointFolder, OpensIndexesAndLooseShards) {
  folder_.write("config.json", "{}");
  folder_.write("weights.00.safetensors", weights("a"));
  folder_.write("weights.01.safetensors", weights("b"));
  folder_.write("golden.safetensors", weights("not a weight"));
  folder_.write("adapters.safetensors", weights("not a weight"));
  EXPECT_EQ(open().weights->tensors().size(), 2U);
  folder_.write("model.safetensors.index.json", R"({"weight_map":{"a":"weights.00.safetensors"}})");
  EXPECT_EQ(open().weights->tensors().size(), 1U);
  folder_.write("model.safetensors", weights("c"));
  EXPECT_NE(open().weights->find("c"), nullptr);
}

TEST_F(CheckpointFolder, NoticesMissingLooseShards) {
  folder_.write("config.json", "{}");
  folder_.write("model-00001-of-00003.safetensors", weights("a"));
  folder_.write("model-00003-of-00003.safetensors", weights("c"));
  expect_refused(ErrorCode::kNotFound, {"model-00002-of-00003.safetensors"});
  folder_.write("model-00002-of-00003.safetensors", weights("b"));
  EXPECT_EQ(open().weights->tensors().size(), 3U);
  // A count far beyond the files must not take long.
  folder_.write("model-00001-of-99999.safetensors", weights("d"));
  expect_refused(ErrorCode::kNotFound, {"model-00002-of-99999.safetensors"});
}

TEST_F(CheckpointFolder, SaysHowToConvertPickles) {
  folder_.write("config.json", "{}");
  folder_.write("pytorch_model.bin", "x");
  expect_refused(ErrorCode::kUnsupported, {"pytorch_model.bin", "safetensors", "convert"});
  EXPECT_EQ(open(WeightsNeed::kOptional).weights, nullptr);
}

TEST_F(CheckpointFolder, SaysWhatItLookedFor) {
  expect_refused(ErrorCode::kNotFound, {"config.json", "gguf"});
  expect_refused(ErrorCode::kNotFound, {"config.json", "tokenizer.json"}, WeightsNeed::kOptional);
  folder_.write("config.json", "{}");
  expect_refused(ErrorCode::kNotFound, {"model.safetensors", "model.safetensors.index.json", "gguf"});
  EXPECT_EQ(open(WeightsNeed::kOptional).weights, nullptr);
}

TEST_F(CheckpointFolder, TokenizerAloneIsEnoughWhenWeightsAreOptional) {
  folder_.write("tokenizer.json", "{}");
  EXPECT_EQ(open(WeightsNeed::kOptional).weights, nullptr);
  EXPECT_TRUE(open(WeightsNeed::kNone).config.is_null());
  expect_refused(ErrorCode::kNotFound, {"config.json"});
}

TEST_F(CheckpointFolder, LeavesWeightsAloneWhenNotNeeded) {
  folder_.write("config.json", "{}");
  folder_.write("model.safetensors", "broken");
  EXPECT_EQ(open(WeightsNeed::kNone).weights, nullptr);
  expect_refused(ErrorCode::kCorruptData, {"model.safetensors"});
  expect_refused(ErrorCode::kCorruptData, {"model.safetensors"}, WeightsNeed::kOptional);
}

TEST_F(CheckpointFolder, RefusesWrongConfigs) {
  folder_.write("model.safetensors", weights("a"));
  for (const char* text : {"", "[]", "null", "{", "{\"a\":1,\"a\":2}", "\xFF", "{} x"}) {
    folder_.write("config.json", text);
    expect_refused(ErrorCode::kCorruptData, {"config.json"});
  }
  folder_.write("config.json", "{}");
  folder_.write("generation_config.json", "3");
  expect_refused(ErrorCode::kCorruptData, {"generation_config.json", "integer", "object"});
}

TEST_F(CheckpointFolder, OpensOneGguf) {
  const std::string path = folder_.write("m.gguf", empty_gguf());
  EXPECT_TRUE(open().is_gguf());
  EXPECT_TRUE(open().config.is_null());
  EXPECT_EQ(open().weights->path(), path);
  EXPECT_TRUE(open_checkpoint(path).is_gguf());
  EXPECT_TRUE(open_checkpoint(path, WeightsNeed::kNone).is_gguf());
  folder_.write("n.gguf", empty_gguf());
  expect_refused(ErrorCode::kInvalidArgument, {"m.gguf", "n.gguf", "name one"});
  // A folder with a config and safetensors is that model, whatever else it holds.
  folder_.write("config.json", "{}");
  folder_.write("model.safetensors", weights("a"));
  EXPECT_FALSE(open().is_gguf());
}

TEST_F(CheckpointFolder, RefusesOtherPaths) {
  expect_error(ErrorCode::kNotFound, {folder_ / "absent"}, [&] { open_checkpoint(folder_ / "absent"); });
  expect_error(ErrorCode::kNotFound, {folder_ / "absent.gguf"}, [&] { open_checkpoint(folder_ / "absent.gguf"); });
  expect_error(ErrorCode::kNotFound, {"[model]"}, [] { open_checkpoint(""); });
  const std::string file = folder_.write("model.safetensors", weights("a"));
  expect_error(ErrorCode::kInvalidArgument, {file, "folder"}, [&] { open_checkpoint(file); });
  const std::string fifo = folder_ / "fifo.gguf";
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  expect_error(ErrorCode::kIo, {fifo}, [&] { open_checkpoint(fifo); });
}

// A FIFO, a folder or a link to itself in the place of a file counts as absent, and nothing waits for it.
// Ignored silently, they would make it another model: a FIFO for a template gives another prompt.
TEST_F(CheckpointFolder, NamesWhatStandsInTheFileOfAModelAndIsNone) {
  folder_.write("config.json", "{}");
  folder_.write("model.safetensors", weights("a"));
  std::filesystem::create_directory(folder_ / "notes");
  EXPECT_NE(open().weights->find("a"), nullptr);
  ASSERT_EQ(::mkfifo((folder_ / "chat_template.jinja").c_str(), 0600), 0);
  expect_refused(ErrorCode::kIo, {"chat_template.jinja", "not a regular file"});
  std::filesystem::remove(folder_ / "chat_template.jinja");
  ASSERT_EQ(::symlink("tokenizer.json", (folder_ / "tokenizer.json").c_str()), 0);
  expect_refused(ErrorCode::kIo, {"tokenizer.json", "not a regular file"});
  std::filesystem::remove(folder_ / "tokenizer.json");
  std::filesystem::create_directory(folder_ / "generation_config.json");
  expect_refused(ErrorCode::kIo, {"generation_config.json", "not a regular file"});
}

// The hub's cache keeps links to files elsewhere.
TEST_F(CheckpointFolder, FollowsLinks) {
  const ScratchFolder blobs;
  const std::string config = blobs.write("1", "{}");
  const std::string model = blobs.write("2", weights("a"));
  ASSERT_EQ(::symlink(config.c_str(), (folder_ / "config.json").c_str()), 0);
  ASSERT_EQ(::symlink(model.c_str(), (folder_ / "model.safetensors").c_str()), 0);
  EXPECT_NE(open().weights->find("a"), nullptr);
}

}  // namespace
}  // namespace mobilellm
