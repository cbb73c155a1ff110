// mobilellm inspect and mobilellm verify.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "base/files.h"
#include "base/json.h"
#include "tests/cli/program.h"
#include "tests/support/scratch_folder.h"

namespace mobilellm {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST(Inspect, TellsWhatAModelIs) {
  const ProgramResult result = run_program({"inspect", "--model-path", golden("e2e/r1_chat")});
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(result.err, "");
  EXPECT_THAT(result.out, AllOf(HasSubstr("llama4_text"), HasSubstr("SwiGLU"), HasSubstr("167360"), HasSubstr("F32"),
                                HasSubstr("BPE"), HasSubstr("chat_template.jinja"),
                                HasSubstr("1001 <|end_of_text|>, 1008 <|eom_id|>, 1009 <|eot_id|>")));
  const ProgramResult dual = run_program({"inspect", golden("dual_branch/hf_keys")});
  EXPECT_THAT(dual.out, AllOf(HasSubstr("dual-branch"), HasSubstr("g_up")));
}

TEST(Inspect, JsonListsEveryTensor) {
  const ProgramResult result = run_program({"inspect", golden("models/r1"), "--json", "--ctx", "100"});
  EXPECT_EQ(result.status, 0) << result.err;
  const Json report = Json::parse(result.out, "output");
  EXPECT_TRUE(report.find("ok")->as_bool());
  EXPECT_EQ(report.find("spec")->find("architecture")->as_string(), "llama4_text");
  EXPECT_EQ(report.find("memory")->find("kv_bytes")->as_int(), 100 * 768);
  EXPECT_EQ(report.find("tensors")->as_array().size(), 38u);
  for (const Json& tensor : report.find("tensors")->as_array()) {
    EXPECT_EQ(tensor.find("status")->as_string(), "ok");
    EXPECT_EQ(*tensor.find("shape"), *tensor.find("expected"));
  }
}

TEST(Inspect, FailsAndNamesWhatIsWrong) {
  const ScratchDir folder;
  folder.copy_model("models/r1");
  std::string config = read_text(folder.path("config.json"));
  const size_t at = config.find("\"intermediate_size_mlp\": 160");
  ASSERT_NE(at, std::string::npos);
  folder.write("config.json", config.replace(at, 28, "\"intermediate_size_mlp\": 161"));
  const ProgramResult result = run_program({"inspect", folder.path()});
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(result.err, HasSubstr("feed_forward.gate_proj.weight"));
  EXPECT_THAT(result.out, HasSubstr("[161, 96]"));

  const ProgramResult json = run_program({"inspect", "--json", folder.path()});
  EXPECT_EQ(json.status, 1);
  EXPECT_FALSE(Json::parse(json.out, "output").find("ok")->as_bool());

  const ProgramResult absent = run_program({"inspect", folder.path("absent")});
  EXPECT_EQ(absent.status, 1);
  EXPECT_THAT(absent.err, HasSubstr(folder.path("absent")));
}

TEST(Inspect, TruncatedFileIsOneLine) {
  const ScratchDir folder;
  folder.copy_model("models/r1");
  const std::string weights = read_text(folder.path("model.safetensors"));
  folder.write("model.safetensors", weights.substr(0, weights.size() / 2));
  const ProgramResult result = run_program({"inspect", folder.path()});
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(result.err, AllOf(StartsWith("mobilellm: ["), HasSubstr("model.safetensors")));
}

TEST(Verify, PassesOnEveryLayoutOfReferences) {
  const std::string gguf = golden("gguf/r1-Q8_0");
  const std::pair<std::string, std::string> cases[] = {
      {golden("models/r1"), golden("models/r1/golden.safetensors")},
      {golden("dual_branch/hf_keys"), golden("dual_branch/hf_keys/golden.safetensors")},
      {golden("mlx/r1_q4_g64"), golden("mlx/r1_q4_g64/golden.safetensors")},
      {gguf + ".gguf", gguf + ".golden.safetensors"},
  };
  for (const auto& [model, reference] : cases) {
    for (const char* chunk : {"0", "5"}) {
      const ProgramResult result =
          run_program({"verify", "--model-path", model, "--reference", reference, "--chunk", chunk, "--json"});
      EXPECT_EQ(result.status, 0) << model << result.err;
      const Json report = Json::parse(result.out, "output");
      EXPECT_TRUE(report.find("ok")->as_bool());
      EXPECT_LT(report.find("max_delta")->as_double(), 2e-4);
      EXPECT_FALSE(report.find("logits")->as_array().empty());
    }
  }
}

TEST(Verify, FailsOutsideTheToleranceAndOnAnotherModel) {
  const ProgramResult strict = run_program({"verify", "--model-path", golden("models/r1"), "--reference",
                                            golden("models/r1/golden.safetensors"), "--tolerance", "1e-12"});
  EXPECT_EQ(strict.status, 1);
  EXPECT_THAT(strict.out, HasSubstr("FAILED"));
  EXPECT_THAT(strict.err, HasSubstr("above the tolerance 1e-12"));

  const ProgramResult other = run_program(
      {"verify", "--model-path", golden("models/r1_nope"), "--reference", golden("models/r1/golden.safetensors")});
  EXPECT_EQ(other.status, 1);
  EXPECT_THAT(other.err, HasSubstr("max |delta|"));

  // Wide enough for the logits: then the greedy tokens decide.
  const ProgramResult greedy = run_program({"verify", "--model-path", golden("models/r1_nope"), "--reference",
                                            golden("models/r1/golden.safetensors"), "--tolerance", "1000"});
  EXPECT_EQ(greedy.status, 1);
  EXPECT_THAT(greedy.err, HasSubstr("greedy.ids: token"));
}

TEST(Verify, LogitsWithoutTheirIdsAreNotPassedOver) {
  std::string reference = read_file(golden("models/r1/golden.safetensors"), 1 << 20);
  const std::string name = "\"prompt1.input_ids\"";
  const size_t at = reference.find(name);
  ASSERT_NE(at, std::string::npos);
  reference.replace(at, name.size(), "\"another.input_ids\"");
  const ScratchFolder folder;
  const ProgramResult result = run_program(
      {"verify", "--model-path", golden("models/r1"), "--reference", folder.write("x.safetensors", reference)});
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(result.err, AllOf(HasSubstr("prompt1.logits"), HasSubstr("prompt1.input_ids")));
}

TEST(Verify, ReferenceTensorWithoutItsPartnerIsNamed) {
  struct Case {
    std::string from, to, named;  // Names of the same length, so that the header keeps its size.
  };
  const Case cases[] = {
      {"\"prompt1.logits\"", "\"prompt1.logitz\"", "prompt1.input_ids', but no 'prompt1.logits'"},
      {"\"greedy.ids\"", "\"greedy.idz\"", "greedy.prompt_ids', but no 'greedy.ids'"},
  };
  for (const Case& c : cases) {
    const ScratchDir folder;
    std::string file = read_text(golden("models/r1/golden.safetensors"));
    const size_t at = file.find(c.from);
    ASSERT_NE(at, std::string::npos) << c.from;
    folder.write("reference.safetensors", file.replace(at, c.from.size(), c.to));
    const ProgramResult result = run_program(
        {"verify", "--model-path", golden("models/r1"), "--reference", folder.path("reference.safetensors")});
    EXPECT_EQ(result.status, 1);
    EXPECT_THAT(result.err, AllOf(HasSubstr(c.named), HasSubstr(folder.path("reference.safetensors"))));
  }
}

TEST(Inspect, ManyProblemsAreCut) {
  const auto inspect_with = [](const std::string& from, const std::string& to) {
    const ScratchDir folder;
    folder.copy_model("models/r1");
    std::string config = read_text(folder.path("config.json"));
    const size_t at = config.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    folder.write("config.json", config.replace(at, from.size(), to));
    const ProgramResult result = run_program({"inspect", folder.path()});
    EXPECT_EQ(result.status, 1);
    return result.err;
  };
  const std::string misshaped = inspect_with("\"intermediate_size_mlp\": 160", "\"intermediate_size_mlp\": 161");
  EXPECT_EQ(std::count(misshaped.begin(), misshaped.end(), '\n'), 9) << misshaped;
  EXPECT_THAT(misshaped, HasSubstr("and 4 more problems"));  // Three tensors in each of four layers.
  const std::string unexpected = inspect_with("\"num_hidden_layers\": 4", "\"num_hidden_layers\": 2");
  EXPECT_THAT(unexpected, StartsWith("mobilellm: 18 unexpected tensors: 'model.layers.2."));
  EXPECT_EQ(std::count(unexpected.begin(), unexpected.end(), '\n'), 1) << unexpected;
  EXPECT_EQ(std::count(unexpected.begin(), unexpected.end(), '\''), 2 * 8) << unexpected;
}

TEST(Verify, ReferenceThatDoesNotFitIsNamed) {
  const ProgramResult vocab = run_program(
      {"verify", "--model-path", golden("e2e/r1_chat"), "--reference", golden("models/r1/golden.safetensors")});
  EXPECT_EQ(vocab.status, 1);
  EXPECT_THAT(vocab.err, HasSubstr("prompt0.logits"));
  const ProgramResult nothing = run_program(
      {"verify", "--model-path", golden("models/r1"), "--reference", golden("models/r1/model.safetensors")});
  EXPECT_EQ(nothing.status, 1);
  EXPECT_THAT(nothing.err, HasSubstr("nothing to compare"));
  const ProgramResult absent = run_program({"verify", "--model-path", golden("models/r1"), "--reference", "absent.st"});
  EXPECT_EQ(absent.status, 1);
  EXPECT_THAT(absent.err, HasSubstr("absent.st"));
}

}  // namespace
}  // namespace mobilellm
