// Distillation lowers the divergence, gives the same file for any number of threads, and leaves nothing when stopped.
#include "quant/quantize_distilled.h"

#include <fmt/core.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "base/files.h"
#include "formats/safetensors.h"
#include "formats/tensor_overwrite.h"
#include "tests/support/scratch_folder.h"

namespace mobilellm {
namespace {

QuantizeOptions distill_options(const ScratchFolder& folder, const std::string& name) {
  std::string text;
  for (int i = 0; i < 400; ++i) text += fmt::format("The sum of {} and {} is {}.\n", i, 3 * i, 4 * i);
  QuantizeOptions options;
  options.source = MOBILELLM_SOURCE_DIR "/tests/golden/e2e/r1_chat";
  options.target = folder / name;
  options.params = {QuantMode::kAffine, 3, 32};
  options.method = QuantMethod::kDwq;
  options.calibration = {folder.write("text.txt", text)};
  options.calibration_tokens = 2048;
  options.distillation.n_steps = 12;
  options.distillation.grid_rate = 0.004;
  options.distillation.code_rate = 0.002;
  options.distillation.batch_tokens = 1024;
  options.distillation.steps_per_check = 6;
  options.n_threads = 2;
  return options;
}

std::string weights_of(const std::string& folder) { return read_file(folder + "/model.safetensors", 1U << 24); }

TEST(QuantizeDistilled, LowersTheDivergenceForAnyNumberOfThreads) {
  const ScratchFolder folder;
  QuantizeOptions options = distill_options(folder, "two");
  const QuantizeReport report = quantize_model(options);
  ASSERT_TRUE(report.distillation.has_value());
  EXPECT_GT(report.distillation->best_step, 0);
  EXPECT_LT(report.distillation->after, 0.85 * report.distillation->before);
  options.target = folder / "one";
  options.n_threads = 1;
  quantize_model(options);
  EXPECT_EQ(weights_of(folder / "one"), weights_of(folder / "two"));
  options.target = folder / "other";
  options.distillation.seed = 1;
  quantize_model(options);
  EXPECT_NE(weights_of(folder / "other"), weights_of(folder / "two"));
}

TEST(QuantizeDistilled, ContinuesAfterItsFirstPart) {
  const ScratchFolder folder;
  QuantizeOptions options = distill_options(folder, "whole");
  options.distillation.n_steps = 4;
  quantize_model(options);
  options.target = folder / "out";
  std::atomic<bool> stop = false;
  options.cancel = &stop;
  options.on_progress = [&](const char* stage, double /*fraction*/) {
    if (std::string_view(stage) == "quantizing") stop = true;
  };
  expect_error(ErrorCode::kCancelled, {"nothing was written to " + options.target}, [&] { quantize_model(options); });
  stop = false;
  options.on_progress = [&](const char* stage, double fraction) {
    if (std::string_view(stage) == "distilling" && fraction > 0.2) stop = true;
  };
  expect_error(ErrorCode::kCancelled, {"out", "run the same command again"}, [&] { quantize_model(options); });
  EXPECT_FALSE(directory_exists(folder / "out"));
  EXPECT_TRUE(file_exists(folder / ".out.unfinished/model.layers.2.self_attn.q_proj.weight.part"));
  stop = false;
  options.on_progress = {};
  quantize_model(options);
  EXPECT_EQ(weights_of(folder / "out"), weights_of(folder / "whole"));
  for (const auto& entry : std::filesystem::directory_iterator(folder / "")) {
    EXPECT_NE(entry.path().filename().string().front(), '.') << entry.path();
  }
}

TEST(QuantizeDistilled, ContinuesInTheMiddleOfTraining) {
  const ScratchFolder folder;
  for (const double code_rate : {0.0, 0.002}) {
    SCOPED_TRACE(code_rate);
    QuantizeOptions options = distill_options(folder, "whole");
    options.distillation.n_steps = 8;
    options.distillation.steps_per_check = 3;
    options.distillation.code_rate = code_rate;
    const QuantizeReport whole = quantize_model(options);
    const std::string expected = weights_of(options.target);
    ASSERT_GT(whole.distillation->best_step, 3);
    std::filesystem::remove_all(options.target);
    std::atomic<bool> stop = false;
    options.cancel = &stop;
    options.on_progress = [&](const char* stage, double fraction) {
      stop = std::string_view(stage) == "distilling" && fraction > 0.6;
    };
    expect_error(ErrorCode::kCancelled, {"run the same command again"}, [&] { quantize_model(options); });
    EXPECT_TRUE(file_exists(folder / ".whole.unfinished/training.part"));
    stop = false;
    double first = -1.0;
    options.on_progress = [&](const char* stage, double fraction) {
      EXPECT_NE(std::string_view(stage), "calibrating");
      EXPECT_NE(std::string_view(stage), "measuring outputs");
      if (std::string_view(stage) == "distilling" && first < 0) first = fraction;
    };
    const QuantizeReport continued = quantize_model(options);
    EXPECT_GT(first, 0.3);
    EXPECT_EQ(weights_of(options.target), expected);
    EXPECT_EQ(continued.n_calibration_tokens, whole.n_calibration_tokens);
    EXPECT_EQ(continued.distillation->best_step, whole.distillation->best_step);
    EXPECT_EQ(continued.distillation->before, whole.distillation->before);
    EXPECT_EQ(continued.distillation->after, whole.distillation->after);
    std::filesystem::remove_all(options.target);
  }
}

TEST(OverwriteTensors, ChangesTheNamedDataOnly) {
  const ScratchFolder folder;
  const std::string path = folder / "model.safetensors";
  std::filesystem::copy_file(MOBILELLM_SOURCE_DIR "/tests/golden/training/model/model.safetensors", path);
  const std::string name = "model.norm.weight";
  const std::vector<std::byte> ones(48 * 4, std::byte{1});
  EXPECT_EQ(overwrite_tensors(path, std::vector<TensorBytes>{{name, ones}, {"absent", ones}}), 1U);
  const auto before = open_safetensors(MOBILELLM_SOURCE_DIR "/tests/golden/training/model/model.safetensors");
  const auto after = open_safetensors(path);
  for (const TensorView& tensor : before->tensors()) {
    const TensorView& other = after->get(tensor.name);
    const std::vector<std::byte> expected(tensor.data.begin(), tensor.data.end());
    EXPECT_EQ(std::vector<std::byte>(other.data.begin(), other.data.end()), tensor.name == name ? ones : expected);
  }
  const std::vector<std::byte> few(4);
  expect_error(ErrorCode::kInvalidArgument, {name, "4 bytes", "192"},
               [&] { overwrite_tensors(path, std::vector<TensorBytes>{{name, few}}); });
}

}  // namespace
}  // namespace mobilellm
