// mobilellm convert: results that compute the same, messages, and nothing left after a failure.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "base/files.h"
#include "base/json.h"
#include "tests/cli/program.h"

namespace mobilellm {
namespace {

using ::testing::HasSubstr;

TEST(Convert, ResultsComputeTheSame) {
  const ScratchDir folder;
  for (const char* model : {"models/r1", "models/llama_bias", "models/gemma3_new", "models/olmo2", "models/qwen3"}) {
    for (const char* format : {"mlx", "gguf"}) {
      const std::string target = folder.path(file_name(model) + "." + format);
      const ProgramResult result = run_program({"convert", golden(model), "-o", target, "--to", format});
      EXPECT_EQ(result.status, 0) << result.err;
      EXPECT_THAT(result.out, HasSubstr("saved " + target));
      const ProgramResult verified =
          run_program({"verify", "--model-path", target, "--reference", golden(model) + "/golden.safetensors"});
      EXPECT_EQ(verified.status, 0) << target << verified.out << verified.err;
    }
  }
}

TEST(Convert, OptionsOfTheOriginalAndJson) {
  const ScratchDir folder;
  const ProgramResult result = run_program({"convert", "--hf-path", golden("e2e/r1_chat"), "--mlx-path",
                                            folder.path("mlx"), "--dtype", "bfloat16", "--json"});
  EXPECT_EQ(result.status, 0) << result.err;
  const Json report = Json::parse(result.out, "output");
  EXPECT_EQ(report.find("format")->as_string(), "mlx");
  EXPECT_EQ(report.find("parameters")->as_int(), 167360);
  EXPECT_EQ(report.find("bits_per_weight")->as_double(), 16);
  EXPECT_TRUE(report.find("rounded")->as_array().empty());
  const ProgramResult answer = run_program(
      {"generate", "--model-path", folder.path("mlx"), "--prompt", "Hi", "--max-tokens", "3", "--temperature", "0"});
  EXPECT_EQ(answer.status, 0) << answer.err;
}

TEST(Convert, TellsWhatWasRounded) {
  const ScratchDir folder;
  const ProgramResult result = run_program({"convert", golden("mlx/r1_q8_g64"), "--output", folder.path("out.gguf")});
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.err, HasSubstr("tensors were rounded"));
  EXPECT_THAT(result.out, HasSubstr("from affine 8 bits, group 64 to Q8_0: error 0.00"));
}

TEST(Convert, DrawsABarOnATerminal) {
  const ScratchDir folder;
  ProgramOptions options;
  options.stderr_on_terminal = true;
  const ProgramResult result =
      run_program({"convert", golden("models/r1"), "-o", folder.path("out"), "--to", "hf"}, options);
  EXPECT_EQ(result.status, 0);
  EXPECT_THAT(result.err, HasSubstr("converting [###"));
}

TEST(Convert, AFailureLeavesNothing) {
  const ScratchDir folder;
  const ProgramResult quantized =
      run_program({"convert", golden("mlx/r1_q4_g64"), "-o", folder.path("out"), "--to", "hf"});
  EXPECT_EQ(quantized.status, 2);
  EXPECT_THAT(quantized.err, HasSubstr("add --dequantize"));
  // The shell's limit on file sizes stands for a full disk.
  ProgramOptions options;
  options.program = "/bin/sh";
  const std::string command =
      "ulimit -f 500; exec " MOBILELLM_PROGRAM " convert " + golden("models/r1") + " -o " + folder.path("out.gguf");
  const ProgramResult full = run_program({"-c", command}, options);
  EXPECT_EQ(full.status, 1);
  EXPECT_THAT(full.err, HasSubstr("cannot write"));
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(Summary, CountsLinearLayersByWidth) {
  const ProgramResult mixed = run_program({"summary", "--model-path", golden("mlx/r1_dynamic"), "--show", "1"});
  EXPECT_EQ(mixed.status, 0) << mixed.err;
  EXPECT_THAT(mixed.out, HasSubstr("Method: affine (mixed)\nGroup size: 64\nTotal linear layers: 21\n"
                                   "4 bits: 14\n  model.layers.0.self_attn.k_proj\n"
                                   "5 bits: 7\n  model.layers.0.self_attn.q_proj\n"
                                   "Embedding: 8 bits, group 32\nBits per weight: "));
  const ProgramResult plain = run_program({"summary", golden("models/qwen3_untied"), "--json"});
  EXPECT_EQ(plain.status, 0) << plain.err;
  const Json json = Json::parse(plain.out, "output");
  EXPECT_EQ(json.find("method")->as_string(), "none");
  EXPECT_EQ(json.find("linear_layers")->as_int(), 29);
  EXPECT_EQ(json.find("embedding")->as_string(), "F32");
  const ProgramResult gguf = run_program({"summary", golden("gguf/llama-Q4_K_M.gguf"), "--show", "0"});
  EXPECT_THAT(gguf.out, HasSubstr("Method: gguf (mixed)\nGroup size: "));
  EXPECT_THAT(gguf.out, HasSubstr("Q4_K: "));
}

TEST(Convert, DynamicQuantPrintsTheLinesOfTheOriginal) {
  const ScratchDir folder;
  std::ofstream(folder.path("text.txt")) << std::string(3000, 'a') + " one two three four five.\n";
  const ProgramResult result = run_program({"convert", "--hf-path", golden("e2e/r1_chat"), "--mlx-path",
                                            folder.path("out"), "--dynamic-quant", "--target-bpw", "12", "--group-size",
                                            "64", "--report-ppl", "--calibration", folder.path("text.txt")});
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.out, ::testing::ContainsRegex("Original PPL: [0-9]+\\.[0-9][0-9][0-9]\n"));
  EXPECT_THAT(result.out, ::testing::ContainsRegex("Quantized PPL: [0-9]+\\.[0-9][0-9][0-9]\n"));
  EXPECT_THAT(result.out, HasSubstr("Saved to " + folder.path("out")));
  const ProgramResult alone =
      run_program({"convert", golden("e2e/r1_chat"), "--mlx-path", folder.path("b"), "--report-ppl"});
  EXPECT_EQ(alone.status, 2);
  EXPECT_THAT(alone.err, HasSubstr("go with --dynamic-quant"));
}

}  // namespace
}  // namespace mobilellm
