// Whole models quantized by every method: what their logits lose, independence of threads, options that contradict.
#include "quant/quantize_model.h"

#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "backend/registry.h"
#include "base/files.h"
#include "model/loader.h"
#include "quant/default_text.h"
#include "tests/support/scratch_folder.h"

namespace mobilellm {
namespace {

const std::string kModel = MOBILELLM_SOURCE_DIR "/tests/golden/e2e/r1_chat";

std::string calibration_text() {
  std::string text;
  for (int i = 0; i < 300; ++i) {
    text += fmt::format("The sum of {} and {} is {}; {} squared is {}.\n", i, 3 * i, 4 * i, i, i * i);
  }
  return text;
}

std::vector<float> logits_of(const std::string& path) {
  LoadedModel model = load_model(path);
  const std::vector<int32_t> ids = model.tokenizer->encode("The sum of 401 and 1203 is 1604; 401 squared is 160801.");
  const auto vocab = static_cast<size_t>(model.spec.vocab_size);
  RunnerOptions options;
  options.n_threads = 1;
  options.is_exact = true;
  const std::unique_ptr<Runner> runner = create_runner("cpu", model.spec, std::move(model.weights), options);
  std::vector<int32_t> pages(ids.size() / static_cast<size_t>(runner->page_tokens()) + 1);
  std::iota(pages.begin(), pages.end(), 0);
  runner->reserve_pages(static_cast<int>(pages.size()));
  std::vector<float> logits(ids.size() * vocab);
  const SequenceSlice slice = {ids, 0, pages, static_cast<int>(ids.size())};
  runner->forward(std::span(&slice, 1), logits.data());
  return logits;
}

double squared_difference(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0.0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double difference = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    sum += difference * difference;
  }
  return sum;
}

QuantizeOptions options_for(const ScratchFolder& folder, const std::string& name, QuantMethod method) {
  QuantizeOptions options;
  options.source = kModel;
  options.target = folder / name;
  options.params = {QuantMode::kAffine, 3, 32};
  options.method = method;
  options.n_threads = 2;
  if (method != QuantMethod::kRtn) options.calibration = {folder.write("text.txt", calibration_text())};
  return options;
}

TEST(QuantizeModel, CalibratedMethodsKeepTheLogitsCloser) {
  const ScratchFolder folder;
  const std::vector<float> expected = logits_of(kModel);
  std::vector<double> differences;
  for (const QuantMethod method : {QuantMethod::kRtn, QuantMethod::kFit, QuantMethod::kGptq, QuantMethod::kYaqa}) {
    const QuantizeOptions options = options_for(folder, quant_method_name(method), method);
    const QuantizeReport report = quantize_model(options);
    EXPECT_EQ(report.matrices.size(), 22U);
    EXPECT_EQ(report.n_calibration_tokens > 0, method != QuantMethod::kRtn);
    differences.push_back(squared_difference(expected, logits_of(options.target)));
  }
  // The model is random and tiny, so those that calibrate are compared with rounding only.
  EXPECT_LT(differences[1], 0.9 * differences[0]);
  EXPECT_LT(differences[2], 0.9 * differences[0]);
  EXPECT_LT(differences[3], 0.9 * differences[0]);
}

TEST(QuantizeModel, LargeModelsAreCalibratedWithLessText) {
  ModelSpec spec = load_model(kModel).spec;
  EXPECT_EQ(default_calibration_tokens(spec), 65536);
  spec.vocab_size = 1'000'000;
  spec.d_model = 1024;
  EXPECT_EQ(default_calibration_tokens(spec), 32768);
}

TEST(QuantizeModel, FilesDoNotDependOnThreads) {
  const ScratchFolder folder;
  QuantizeOptions options = options_for(folder, "two", QuantMethod::kYaqa);
  options.calibration_tokens = 700;  // A whole chunk and part of one.
  EXPECT_EQ(quantize_model(options).n_calibration_tokens, 700);
  options.target = folder / "one";
  options.n_threads = 1;
  quantize_model(options);
  EXPECT_EQ(read_file(folder / "one/model.safetensors", 1U << 24),
            read_file(folder / "two/model.safetensors", 1U << 24));
}

TEST(QuantizeModel, GgufTypesTakeTheNextThatFits) {
  const ScratchFolder folder;
  QuantizeOptions options = options_for(folder, "model.gguf", QuantMethod::kFit);
  options.calibration = {folder.write("rows.jsonl", "{\"text\": \"one two three\"}\n\n{\"text\": \"four\"}\n")};
  options.format = ModelFormat::kGguf;
  options.block_type = DType::kQ4_K;
  const QuantizeReport report = quantize_model(options);
  std::set<std::string> kinds;
  for (const QuantizedMatrix& matrix : report.matrices) kinds.insert(matrix.storage);
  EXPECT_THAT(kinds, ::testing::ElementsAre("Q5_0", "float"));
  EXPECT_LT(squared_difference(logits_of(kModel), logits_of(options.target)), 1e9);
}

TEST(QuantizeModel, MixturesStayWithinTheirBits) {
  const ScratchFolder folder;
  QuantizeOptions options = options_for(folder, "mixed", QuantMethod::kGptq);
  options.target_bpw = 12.0;
  options.overrides = {parse_override("*layers.0.mlp*=8:32", options.format, 64),
                       parse_override("*layers.0.feed_forward*=8:32", options.format, 64),
                       parse_override("*layers.1.self_attn.q_proj=float", options.format, 64)};
  const QuantizeReport report = quantize_model(options);
  const double bpw =
      8.0 * static_cast<double>(report.conversion.n_bytes) / static_cast<double>(report.conversion.n_parameters);
  EXPECT_LE(bpw, 12.02);
  EXPECT_GT(bpw, 11.0);
  std::set<std::string> kinds;
  int n_eight = 0;
  for (const QuantizedMatrix& matrix : report.matrices) {
    kinds.insert(matrix.storage);
    const bool is_float = matrix.storage == "float";
    EXPECT_EQ(matrix.rounding_loss > 0.0, !is_float) << matrix.name;
    EXPECT_TRUE(is_float || matrix.name.find("layers.1.self_attn.q_proj") == std::string::npos);
    if (matrix.name.find("layers.0.") != std::string::npos && matrix.storage == "affine 8 bits, group 32") ++n_eight;
  }
  EXPECT_GE(n_eight, 2);
  EXPECT_GT(kinds.size(), 3U);
  EXPECT_LT(squared_difference(logits_of(kModel), logits_of(options.target)), 1e9);
  options.target = folder / "small";
  options.target_bpw = 2.0;
  expect_error(ErrorCode::kInvalidArgument, {"least possible"}, [&] { quantize_model(options); });
}

TEST(QuantizeModel, MixesGgufTypes) {
  const ScratchFolder folder;
  QuantizeOptions options = options_for(folder, "mixed.gguf", QuantMethod::kFit);
  options.format = ModelFormat::kGguf;
  options.target_bpw = 9.5;
  const QuantizeReport report = quantize_model(options);
  EXPECT_LE(8.0 * static_cast<double>(report.conversion.n_bytes),
            9.52 * static_cast<double>(report.conversion.n_parameters));
  options.target = folder / "recipe.gguf";
  options.target_bpw.reset();
  options.recipe = find_recipe("Q4_K_M");
  std::set<std::string> kinds;
  for (const QuantizedMatrix& matrix : quantize_model(options).matrices) kinds.insert(matrix.storage);
  EXPECT_GE(kinds.size(), 2U);
  options.format = ModelFormat::kMlx;
  expect_error(ErrorCode::kInvalidArgument, {"Q4_K_M", "gguf"}, [&] { quantize_model(options); });
}

TEST(QuantizeModel, HasCalibrationTextOfItsOwn) {
  const std::string text = default_calibration_text();
  EXPECT_EQ(text, default_calibration_text());
  EXPECT_GT(text.size(), 80000U);
  EXPECT_TRUE(std::all_of(text.begin(), text.end(), [](char c) { return c == '\n' || (c >= ' ' && c <= '~'); }));
  EXPECT_THAT(text, ::testing::HasSubstr("\\boxed{"));
  const ScratchFolder folder;
  QuantizeOptions options = options_for(folder, "own", QuantMethod::kFit);
  options.calibration.clear();
  options.calibration_tokens = 2048;
  EXPECT_EQ(quantize_model(options).n_calibration_tokens, 2048);
}

TEST(QuantizeModel, RefusesWhatContradicts) {
  const ScratchFolder folder;
  QuantizeOptions options = options_for(folder, "out", QuantMethod::kGptq);
  options.calibration = {folder.write("empty.txt", "")};
  expect_error(ErrorCode::kInvalidArgument, {"without tokens"}, [&] { quantize_model(options); });
  options.calibration = {folder.write("bad.jsonl", "{\"text\": \"fine\"}\n{\"words\": 1}\n")};
  expect_error(ErrorCode::kCorruptData, {"bad.jsonl, line 2", "text"}, [&] { quantize_model(options); });
  options.format = ModelFormat::kGguf;
  expect_error(ErrorCode::kInvalidArgument, {"gptq", "affine"}, [&] { quantize_model(options); });
  options.format = ModelFormat::kHuggingFace;
  expect_error(ErrorCode::kInvalidArgument, {"hf"}, [&] { quantize_model(options); });
  options = options_for(folder, "out", QuantMethod::kRtn);
  options.params.bits = 7;
  expect_error(ErrorCode::kInvalidArgument, {"7"}, [&] { quantize_model(options); });
  options.params.bits = 4;
  const std::atomic<bool> stop = true;
  options.cancel = &stop;
  expect_error(ErrorCode::kCancelled, {"out"}, [&] { quantize_model(options); });
  EXPECT_FALSE(directory_exists(folder / "out"));
}

}  // namespace
}  // namespace mobilellm
