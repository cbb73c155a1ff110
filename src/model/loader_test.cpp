// Tests of loading and checking folders: precedence of files, stop ids, and reports on broken checkpoints.
#include "model/loader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "base/files.h"
#include "mobilellm/error.h"
#include "model/check.h"

namespace mobilellm {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string golden(const std::string& name) { return MOBILELLM_SOURCE_DIR "/tests/golden/" + name; }

/// A copy of a golden folder that a test may damage.
class FolderCopy {
 public:
  explicit FolderCopy(const std::string& name) {
    const auto* test = testing::UnitTest::GetInstance()->current_test_info();
    path_ =
        std::filesystem::temp_directory_path() / (std::string("mobilellm_") + test->name() + std::to_string(getpid()));
    std::filesystem::remove_all(path_);
    std::filesystem::copy(golden(name), path_);
  }
  ~FolderCopy() { std::filesystem::remove_all(path_); }
  FolderCopy(const FolderCopy&) = delete;
  FolderCopy& operator=(const FolderCopy&) = delete;

  std::string path() const { return path_.string(); }
  std::string file(const std::string& name) const { return (path_ / name).string(); }
  void write(const std::string& name, const std::string& text) const {
    std::ofstream(file(name), std::ios::binary) << text;
  }
  void remove(const std::string& name) const { std::filesystem::remove(path_ / name); }
  void set_config(const std::string& key, Json value) const {
    Json config = Json::parse_file(file("config.json"));
    config.set(key, std::move(value));
    write("config.json", config.dump());
  }

 private:
  std::filesystem::path path_;
};

std::string load_error(const std::string& path) {
  try {
    load_model(path);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(Loader, LoadsEveryFormat) {
  const LoadedModel plain = load_model(golden("models/llama_untied_sharded"));
  EXPECT_EQ(plain.format, "safetensors");
  EXPECT_EQ(plain.tokenizer, nullptr);
  EXPECT_EQ(plain.chat_template, nullptr);
  EXPECT_EQ(plain.weights.lm_head.rows, 288);
  EXPECT_EQ(load_model(golden("mlx/r1_q4_g64")).format, "mlx");
  EXPECT_EQ(load_model(golden("gguf/qwen3-F16.gguf")).format, "gguf");
}

TEST(Loader, PrefersGenerationConfigForStopIds) {
  // config.json says 2, generation_config.json says 2 and 3.
  EXPECT_THAT(load_model(golden("models/r1")).spec.eos_ids, ElementsAre(2, 3));
  const FolderCopy folder("models/r1");
  folder.write("generation_config.json", R"({"eos_token_id": 7, "temperature": 0.6, "top_k": 20, "do_sample": true})");
  const LoadedModel model = load_model(folder.path());
  EXPECT_THAT(model.spec.eos_ids, ElementsAre(7));
  EXPECT_EQ(model.defaults.temperature, 0.6);
  EXPECT_EQ(model.defaults.top_k, 20);
  EXPECT_EQ(model.defaults.top_p, std::nullopt);
  folder.remove("generation_config.json");
  EXPECT_THAT(load_model(folder.path()).spec.eos_ids, ElementsAre(2));
}

TEST(Loader, NamesTheKeyOfABadGenerationConfig) {
  const FolderCopy folder("models/r1");
  folder.write("generation_config.json", R"({"temperature": "hot"})");
  EXPECT_THAT(load_error(folder.path()), HasSubstr("generation_config.json: temperature"));
  folder.write("generation_config.json", R"({"eos_token_id": [1, -5]})");
  EXPECT_THAT(load_error(folder.path()), HasSubstr("generation_config.json: eos_token_id"));
}

TEST(Loader, PrefersTheTemplateFile) {
  const FolderCopy folder("e2e/r1_chat");
  Json config = Json::parse_file(folder.file("tokenizer_config.json"));
  config.set("chat_template", "from tokenizer_config");
  folder.write("tokenizer_config.json", config.dump());
  folder.write("chat_template.jinja", "from file");
  const auto source = [&] {
    const LoadedText text = load_text_parts(folder.path());
    return text.chat_template == nullptr ? std::string("none") : text.chat_template->source();
  };
  EXPECT_EQ(source(), "from file");
  folder.remove("chat_template.jinja");
  EXPECT_EQ(source(), "from tokenizer_config");
  const auto entry = [](const char* name, const char* text) {
    return Json(Json::Object{{"name", name}, {"template", text}});
  };
  config.set("chat_template", Json(Json::Array{entry("tool_use", "tools"), entry("default", "from list")}));
  folder.write("tokenizer_config.json", config.dump());
  EXPECT_EQ(source(), "from list");
}

TEST(Loader, ReadsTextPartsWithoutWeights) {
  const FolderCopy folder("e2e/r1_chat");
  folder.remove("model.safetensors");
  folder.remove("config.json");
  const LoadedText text = load_text_parts(folder.path());
  ASSERT_NE(text.tokenizer, nullptr);
  EXPECT_NE(text.chat_template, nullptr);
  EXPECT_EQ(text.bos_token, "<|begin_of_text|>");
}

TEST(Loader, ReadsTextPartsOfGguf) {
  const LoadedText text = load_text_parts(golden("gguf/r1-Q8_0.gguf"));
  ASSERT_NE(text.tokenizer, nullptr);
  EXPECT_EQ(text.bos_token, "<|begin_of_text|>");
  const std::vector<TokenId> ids = text.tokenizer->encode("Hello world");
  EXPECT_EQ(text.tokenizer->decode(ids), "Hello world");
}

TEST(Loader, ErrorsNameTheFileAndTheCause) {
  {
    const FolderCopy folder("models/qwen3");
    folder.set_config("intermediate_size", 145);
    const std::string error = load_error(folder.path());
    EXPECT_THAT(error, HasSubstr("mlp.gate_proj.weight"));
    EXPECT_THAT(error, HasSubstr("[145, 64]"));
  }
  {
    const FolderCopy folder("models/qwen3");
    folder.write("config.json", "{\"model_type\": ");
    EXPECT_THAT(load_error(folder.path()), HasSubstr("config.json"));
  }
  {
    const FolderCopy folder("models/qwen3");
    folder.set_config("quantization_config", Json(Json::Object{{"quant_method", "awq"}, {"bits", 4}}));
    EXPECT_THAT(load_error(folder.path()), HasSubstr("quant_method"));
  }
  EXPECT_THAT(load_error(golden("no_such_folder")), HasSubstr("no_such_folder"));
}

TEST(Check, IsCleanForEveryGoldenModel) {
  std::vector<std::string> paths;
  for (const char* folder : {"models", "mlx", "dual_branch"}) {
    for (const auto& entry : std::filesystem::directory_iterator(golden(folder))) {
      if (entry.is_directory()) paths.push_back(entry.path().string());
    }
  }
  for (const auto& entry : std::filesystem::directory_iterator(golden("gguf"))) {
    if (entry.path().extension() == ".gguf") paths.push_back(entry.path().string());
  }
  ASSERT_GT(paths.size(), 40U);
  for (const std::string& path : paths) {
    const ModelCheck check = check_model(path);
    EXPECT_TRUE(check.is_ok()) << path << ": " << (check.problems.empty() ? "" : check.problems.front());
    EXPECT_GT(check.n_parameters, 0) << path;
    EXPECT_GT(check.bits_per_weight, 2.0) << path;
    EXPECT_LE(check.bits_per_weight, 33.0) << path;
  }
}

TEST(Check, TellsTheMlpVariant) {
  EXPECT_EQ(check_model(golden("models/r1")).mlp_variant, "SwiGLU");
  EXPECT_EQ(check_model(golden("models/gemma3")).mlp_variant, "GeGLU");
  const ModelCheck dual = check_model(golden("dual_branch/hf_keys"));
  EXPECT_EQ(dual.mlp_variant, "dual-branch");
  EXPECT_THAT(dual.mlp_reason, HasSubstr("g_up"));
}

TEST(Check, CollectsEveryProblem) {
  const FolderCopy folder("models/r1");
  folder.set_config("intermediate_size_mlp", 200);
  folder.set_config("num_hidden_layers", 5);
  folder.set_config("no_rope_layers", Json(Json::Array{1, 1, 1, 1, 1}));
  const ModelCheck check = check_model(folder.path());
  EXPECT_FALSE(check.is_ok());
  EXPECT_EQ(check.problems.size(), 4U * 3U + 9U);  // Three MLP shapes in four layers, nine tensors of the fifth.
  EXPECT_THAT(check.problems, testing::Contains(HasSubstr("missing tensor 'model.layers.4.")));
}

TEST(Check, ReportsAConfigThatIsRefused) {
  const FolderCopy folder("models/r1");
  folder.set_config("hidden_act", "relu");
  const ModelCheck check = check_model(folder.path());
  EXPECT_THAT(check.problems, ElementsAre(HasSubstr("hidden_act")));
  EXPECT_FALSE(check.spec.has_value());
  EXPECT_FALSE(check.tensors.empty());
  EXPECT_FALSE(check_model(golden("nowhere")).is_ok());
}

}  // namespace
}  // namespace mobilellm
