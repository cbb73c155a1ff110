// Tests of conversions: round trips of every model family, quantized models, and what must be refused without a trace.
#include "convert/convert.h"

#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <limits>

#include "base/files.h"
#include "base/json.h"
#include "codec/codec.h"
#include "formats/gguf.h"
#include "formats/safetensors.h"
#include "formats/safetensors_writer.h"
#include "model/binding.h"
#include "model/checkpoint.h"
#include "model/loader.h"
#include "tests/support/scratch_folder.h"

namespace mobilellm {
namespace {

using testing::HasSubstr;

const std::string kGolden = MOBILELLM_SOURCE_DIR "/tests/golden/";

std::vector<std::string> list_models(const std::string& folder, const std::string& suffix) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(kGolden + folder)) {
    const std::string name = entry.path().filename().string();
    const bool fits = suffix.empty() ? file_exists(entry.path().string() + "/config.json") : name.ends_with(suffix);
    if (fits) names.push_back(folder + "/" + name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

ConvertReport convert(const std::string& source, const std::string& target, ModelFormat format,
                      bool dequantize = false) {
  ConvertOptions options;
  options.source = source;
  options.target = target;
  options.format = format;
  options.dequantize = dequantize;
  return convert_model(options);
}

/// Matrices of a model as f32 values, in the order of its table.
struct NamedValues {
  std::string name;
  std::vector<float> values;
};
std::vector<NamedValues> decode_all(const std::string& path) {
  const CheckpointDir checkpoint = open_checkpoint(path);
  const ModelDescription description = describe_checkpoint(checkpoint);
  const BindingReport binding = match_tensors(description, *checkpoint.weights, checkpoint_quantization(checkpoint));
  EXPECT_EQ(binding.first_error(), "");
  std::vector<NamedValues> all;
  for (size_t i = 0; i < binding.table.size(); ++i) {
    const TensorMatch& match = binding.matches[i];
    const StoredMatrix matrix =
        match.quantization ? make_quantized_matrix(*match.weight, *match.scales, match.biases, *match.quantization)
                           : make_matrix(*match.weight);
    NamedValues entry;
    entry.name = match.weight->name;
    entry.values.resize(static_cast<size_t>(matrix.rows * matrix.cols));
    matrix.codec->decode_rows(matrix, 0, matrix.rows, entry.values.data());
    all.push_back(std::move(entry));
  }
  return all;
}

void expect_same_values(const std::string& a, const std::string& b) {
  const std::vector<NamedValues> left = decode_all(a);
  const std::vector<NamedValues> right = decode_all(b);
  ASSERT_EQ(left.size(), right.size());
  for (size_t i = 0; i < left.size(); ++i) {
    EXPECT_EQ(left[i].values, right[i].values) << left[i].name << " and " << right[i].name;
  }
}

/// Same tensors bit for bit, whatever the files and their order.
void expect_same_tensors(const WeightSource& a, const WeightSource& b, bool has_old_names) {
  EXPECT_EQ(a.tensors().size(), b.tensors().size());
  for (const TensorView& tensor : a.tensors()) {
    std::string name = tensor.name;
    const size_t module = has_old_names ? name.find(".mlp.") : std::string::npos;
    if (module != std::string::npos) name.replace(module, 5, ".feed_forward.");
    const TensorView* other = b.find(name);
    ASSERT_NE(other, nullptr) << name;
    EXPECT_EQ(tensor.dtype, other->dtype) << name;
    EXPECT_EQ(tensor.shape, other->shape) << name;
    ASSERT_EQ(tensor.data.size(), other->data.size()) << name;
    EXPECT_EQ(std::memcmp(tensor.data.data(), other->data.data(), tensor.data.size()), 0) << name;
  }
}

std::vector<std::string> float_models() {
  std::vector<std::string> all = list_models("models", "");
  for (const char* folder : {"dual_branch", "e2e"}) {
    const std::vector<std::string> more = list_models(folder, "");
    all.insert(all.end(), more.begin(), more.end());
  }
  return all;
}

std::string case_name(const testing::TestParamInfo<std::string>& info) {
  std::string name = info.param;
  for (char& c : name) {
    if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '_';
  }
  return name;
}

class RoundTrip : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Models, RoundTrip, testing::ValuesIn(float_models()), case_name);

TEST_P(RoundTrip, IsBitIdentical) {
  const std::string source = kGolden + GetParam();
  const CheckpointDir before = open_checkpoint(source);
  const ScratchFolder scratch;
  for (const auto& [format, name] : {std::pair(ModelFormat::kMlx, "between"), {ModelFormat::kGguf, "between.gguf"}}) {
    const std::string there = scratch / name;
    const std::string back = there + ".back";
    convert(source, there, format);
    convert(there, back, ModelFormat::kHuggingFace);
    const CheckpointDir after = open_checkpoint(back);
    expect_same_tensors(*before.weights, *after.weights, GetParam() == "dual_branch/hf_keys");
    EXPECT_EQ(before.config, [&] {
      // The folder between sorted the keys.
      Json ordered = Json::object();
      for (const auto& [key, value] : before.config.as_object()) {
        const Json* found = after.config.find(key);
        ordered.set(key, found == nullptr ? Json("absent") : *found);
      }
      return ordered;
    }());
    // mlx-lm needs older names of some keys besides the newer ones.
    if (format == ModelFormat::kGguf) {
      EXPECT_EQ(before.config.as_object().size(), after.config.as_object().size());
    }
    // A folder made from a GGUF file always has one.
    if (!before.generation_config.is_null()) {
      EXPECT_EQ(before.generation_config, after.generation_config);
    }
    const LoadedText text = load_text_parts(source);
    const LoadedText text_after = load_text_parts(back);
    ASSERT_EQ(text.tokenizer == nullptr, text_after.tokenizer == nullptr);
    if (text.tokenizer != nullptr) {
      const std::string sample = "I'm 12345 x\n\n y<|eot_id|> caf\xC3\xA9";
      EXPECT_EQ(text.tokenizer->encode(sample, {.add_special = true}),
                text_after.tokenizer->encode(sample, {.add_special = true}));
      EXPECT_EQ(text.chat_template->source(), text_after.chat_template->source());
      EXPECT_EQ(text.bos_token, text_after.bos_token);
    }
  }
}

class Quantized : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Mlx, Quantized, testing::ValuesIn(list_models("mlx", "")), case_name);

TEST_P(Quantized, KeepsItsValuesInMlxAndAsFloats) {
  const ScratchFolder scratch;
  const std::string source = kGolden + GetParam();
  convert(source, scratch / "mlx", ModelFormat::kMlx);
  expect_same_tensors(*open_checkpoint(source).weights, *open_checkpoint(scratch / "mlx").weights, false);
  ConvertOptions options;
  options.source = source;
  options.target = scratch / "float";
  options.dtype = DType::kF32;
  options.dequantize = true;
  convert_model(options);
  expect_same_values(source, scratch / "float");
  EXPECT_EQ(open_checkpoint(scratch / "float").config.find("quantization"), nullptr);
}

TEST_P(Quantized, BecomesTheNearestBlocks) {
  const ScratchFolder scratch;
  const std::string source = kGolden + GetParam();
  const ConvertReport report = convert(source, scratch / "x.gguf", ModelFormat::kGguf);
  for (const ChangedTensor& tensor : report.changed) {
    // 8 and 6 bits are rounded to Q8_0; scales in f32 are rounded to fp16.
    EXPECT_LT(tensor.relative_error, tensor.to == "Q8_0" ? 0.02 : 1e-3) << tensor.name;
    EXPECT_GT(tensor.max_error, 0) << tensor.name;
  }
  const bool is_exact = GetParam() == "mlx/r1_bf16_q4_g64" || GetParam() == "mlx/r1_mxfp4";
  if (is_exact) {
    EXPECT_TRUE(report.changed.empty());
  }
  const auto file = GgufFile::open(scratch / "x.gguf");
  EXPECT_TRUE(std::any_of(file->tensors().begin(), file->tensors().end(),
                          [](const TensorView& tensor) { return is_block_dtype(tensor.dtype); }));
}

TEST(Convert, RefusesToHideAQuantization) {
  const ScratchFolder scratch;
  expect_error(ErrorCode::kInvalidArgument, {"quantized", "--dequantize"},
               [&] { convert(kGolden + "mlx/r1_q4_g64", scratch / "x", ModelFormat::kHuggingFace); });
  EXPECT_TRUE(std::filesystem::is_empty(scratch.path()));
}

class Gguf : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Files, Gguf, testing::ValuesIn(list_models("gguf", ".gguf")), case_name);

TEST_P(Gguf, BecomesAFolderOfTheSameValues) {
  const ScratchFolder scratch;
  const std::string source = kGolden + GetParam();
  ConvertOptions options;
  options.source = source;
  options.target = scratch / "hf";
  options.dtype = DType::kF32;
  options.dequantize = true;
  convert_model(options);
  // Rows of q and k may be in another order and norms unfolded; going on to GGUF undoes both.
  options.source = scratch / "hf";
  options.target = scratch / "again.gguf";
  options.format = ModelFormat::kGguf;
  options.dequantize = false;
  convert_model(options);
  expect_same_values(source, scratch / "again.gguf");

  const LoadedModel before = load_model(source);
  const LoadedModel after = load_model(scratch / "hf");
  EXPECT_EQ(first_difference(before.spec, after.spec), "");
  EXPECT_EQ(before.spec.eos_ids, after.spec.eos_ids);
  const std::string sample = "I'm 12345 x\n\n y<|eot_id|> caf\xC3\xA9";
  EXPECT_EQ(before.tokenizer->encode(sample, {.add_special = true}),
            after.tokenizer->encode(sample, {.add_special = true}));
}

TEST_P(Gguf, BecomesAnMlxFolderOfTheSameValues) {
  const ScratchFolder scratch;
  const std::string source = kGolden + GetParam();
  const ConvertReport report = convert(source, scratch / "mlx", ModelFormat::kMlx);
  EXPECT_TRUE(report.changed.empty());
  if (!report.notes.empty()) {
    EXPECT_THAT(report.notes.front(), HasSubstr("becomes float"));
    return;
  }
  ConvertOptions options;
  options.source = scratch / "mlx";
  options.target = scratch / "again.gguf";
  options.format = ModelFormat::kGguf;
  options.dtype = DType::kF32;
  options.dequantize = true;
  convert_model(options);
  expect_same_values(source, scratch / "again.gguf");
}

TEST_P(Gguf, CopiesItselfWithItsMetadata) {
  const ScratchFolder scratch;
  const std::string source = kGolden + GetParam();
  convert(source, scratch / "copy.gguf", ModelFormat::kGguf);
  const auto before = GgufFile::open(source);
  const auto after = GgufFile::open(scratch / "copy.gguf");
  expect_same_tensors(*before, *after, false);
  for (const std::string& key : before->keys()) {
    if (key == "general.file_type") continue;
    const GgufValue* other = after->find_key(key);
    ASSERT_NE(other, nullptr) << key;
    const GgufValue& value = *before->find_key(key);
    EXPECT_EQ(value.type, other->type) << key;
    EXPECT_EQ(value.integer, other->integer) << key;
    EXPECT_EQ(value.number, other->number) << key;
    EXPECT_EQ(value.text, other->text) << key;
    EXPECT_EQ(value.strings, other->strings) << key;
    EXPECT_TRUE(std::ranges::equal(value.raw, other->raw)) << key;
  }
}

TEST(Convert, ChangesTheFloatType) {
  const ScratchFolder scratch;
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    for (const ModelFormat format : {ModelFormat::kMlx, ModelFormat::kGguf}) {
      ConvertOptions options;
      options.source = kGolden + "models/llama_tied";
      options.target = scratch / fmt::format("{}-{}{}", dtype_name(dtype), model_format_name(format),
                                             format == ModelFormat::kGguf ? ".gguf" : "");
      options.format = format;
      options.dtype = dtype;
      convert_model(options);
      const CheckpointDir result = open_checkpoint(options.target);
      for (const TensorView& tensor : result.weights->tensors()) {
        const bool is_vector = tensor.shape.size() == 1;
        EXPECT_EQ(tensor.dtype, is_vector && result.is_gguf() ? DType::kF32 : dtype) << tensor.name;
      }
      if (!result.is_gguf() && dtype == DType::kBF16) {
        EXPECT_EQ(result.config.find("torch_dtype")->as_string(), "bfloat16");
      }
    }
  }
}

TEST(Convert, WritesShards) {
  const ScratchFolder scratch;
  const std::string source = kGolden + "models/qwen3_untied";
  for (const ModelFormat format : {ModelFormat::kHuggingFace, ModelFormat::kMlx, ModelFormat::kGguf}) {
    ConvertOptions options;
    options.source = source;
    options.target = scratch / model_format_name(format);
    options.format = format;
    options.max_shard_bytes = 200'000;
    convert_model(options);
    const CheckpointDir result = open_checkpoint(options.target);
    EXPECT_GT(std::distance(std::filesystem::directory_iterator(options.target), {}), 3);
    expect_same_values(source, options.target);
  }
}

TEST(Convert, TellsItsProgress) {
  const ScratchFolder scratch;
  std::vector<double> fractions;
  ConvertOptions options;
  options.source = kGolden + "models/r1";
  options.target = scratch / "out";
  options.on_progress = [&](double fraction) { fractions.push_back(fraction); };
  convert_model(options);
  ASSERT_FALSE(fractions.empty());
  EXPECT_TRUE(std::is_sorted(fractions.begin(), fractions.end()));
  EXPECT_DOUBLE_EQ(fractions.back(), 1.0);
}

// ----- what must leave nothing behind -----

class Refusal : public testing::Test {
 protected:
  ScratchFolder scratch;
  std::string source = kGolden + "models/r1";

  std::vector<std::string> entries() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(scratch.path())) {
      names.push_back(entry.path().filename().string());
    }
    std::sort(names.begin(), names.end());
    return names;
  }
  /// A copy of a model whose tensors went through `change`, which may drop (false) or alter them.
  std::string changed_copy(const std::function<bool(const TensorView&, std::vector<std::byte>&)>& change) {
    const CheckpointDir checkpoint = open_checkpoint(source);
    std::vector<PlannedTensor> tensors;
    for (const TensorView& tensor : checkpoint.weights->tensors()) {
      std::vector<std::byte> bytes(tensor.data.begin(), tensor.data.end());
      if (!change(tensor, bytes)) continue;
      tensors.push_back({tensor.name, tensor.dtype, tensor.shape, [bytes](const ByteSink& sink) { sink(bytes); }});
    }
    std::string path = scratch / "source";
    std::filesystem::create_directory(path);
    write_safetensors(path + "/model.safetensors", tensors, {});
    std::filesystem::copy_file(source + "/config.json", path + "/config.json");
    return path;
  }
};

TEST_F(Refusal, NamesNanAndInfinity) {
  const std::string name = "model.layers.1.self_attn.q_proj.weight";
  for (const bool is_nan : {true, false}) {
    std::filesystem::remove_all(scratch / "source");
    const std::string broken = changed_copy([&](const TensorView& tensor, std::vector<std::byte>& bytes) {
      const float value = is_nan ? std::numeric_limits<float>::quiet_NaN() : -std::numeric_limits<float>::infinity();
      if (tensor.name == name) std::memcpy(bytes.data() + 40, &value, 4);
      return true;
    });
    for (const ModelFormat format : {ModelFormat::kHuggingFace, ModelFormat::kMlx, ModelFormat::kGguf}) {
      expect_error(ErrorCode::kCorruptData, {name, "value 10", "NaN or infinite"},
                   [&] { convert(broken, scratch / "out.gguf", format); });
    }
    EXPECT_THAT(entries(), testing::ElementsAre("source"));
  }
}

TEST_F(Refusal, NamesMissingAndMisshapenTensors) {
  const std::string missing = changed_copy(
      [](const TensorView& tensor, std::vector<std::byte>&) { return tensor.name != "model.norm.weight"; });
  expect_error(ErrorCode::kCorruptData, {"norm.weight", "missing"},
               [&] { convert(missing, scratch / "out", ModelFormat::kMlx); });
  Json config = Json::parse_file(missing + "/config.json");
  config.set("intermediate_size_mlp", 159);
  std::filesystem::remove(missing + "/config.json");
  write_file(missing + "/config.json", config.dump());
  expect_error(ErrorCode::kCorruptData, {"gate_proj", "159"},
               [&] { convert(missing, scratch / "out", ModelFormat::kMlx); });
  EXPECT_THAT(entries(), testing::ElementsAre("source"));
}

TEST_F(Refusal, NamesAMissingShard) {
  const std::string sharded = kGolden + "models/llama_untied_sharded";
  std::filesystem::create_directory(scratch / "source");
  for (const auto& entry : std::filesystem::directory_iterator(sharded)) {
    const std::string name = entry.path().filename().string();
    if (name != "model-00002-of-00003.safetensors")
      std::filesystem::copy_file(entry.path(), scratch / "source/" + name);
  }
  expect_error(ErrorCode::kNotFound, {"model-00002-of-00003.safetensors"},
               [&] { convert(scratch / "source", scratch / "out", ModelFormat::kMlx); });
  EXPECT_THAT(entries(), testing::ElementsAre("source"));
}

TEST_F(Refusal, NamesValuesThatDoNotFit) {
  const std::string large = changed_copy([](const TensorView& tensor, std::vector<std::byte>& bytes) {
    const float value = 70000;
    if (tensor.name == "model.embed_tokens.weight") std::memcpy(bytes.data(), &value, 4);
    return true;
  });
  ConvertOptions options;
  options.source = large;
  options.target = scratch / "out";
  options.dtype = DType::kF16;
  expect_error(ErrorCode::kUnsupported, {"embed_tokens", "70000", "F16"}, [&] { convert_model(options); });
  options.dtype = DType::kBF16;
  convert_model(options);
}

TEST_F(Refusal, KeepsAnExistingTarget) {
  scratch.write("out.gguf", "old");
  expect_error(ErrorCode::kInvalidArgument, {"exists already"},
               [&] { convert(source, scratch / "out.gguf", ModelFormat::kGguf); });
  expect_error(ErrorCode::kInvalidArgument, {"exists already"},
               [&] { convert(source, scratch / "out.gguf", ModelFormat::kMlx); });
  EXPECT_EQ(read_file(scratch / "out.gguf", 10), "old");
  EXPECT_THAT(entries(), testing::ElementsAre("out.gguf"));
  expect_error(ErrorCode::kInvalidArgument, {"ends in .gguf"},
               [&] { convert(source, scratch / "out", ModelFormat::kGguf); });
}

TEST_F(Refusal, LeavesNothingWhenCancelled) {
  std::atomic<bool> cancel{false};
  ConvertOptions options;
  options.source = source;
  options.target = scratch / "out";
  options.cancel = &cancel;
  options.on_progress = [&](double fraction) { cancel = fraction > 0.5; };
  expect_error(ErrorCode::kCancelled, {"stopped"}, [&] { convert_model(options); });
  EXPECT_THAT(entries(), testing::IsEmpty());
}

TEST_F(Refusal, LeavesNothingWhenTheDiskIsFull) {
  rlimit old_limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &old_limit), 0);
  auto* const old_handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit limit = {300'000, old_limit.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &limit), 0);
  for (const ModelFormat format : {ModelFormat::kHuggingFace, ModelFormat::kMlx, ModelFormat::kGguf}) {
    expect_error(ErrorCode::kIo, {"cannot write"}, [&] { convert(source, scratch / "out.gguf", format); });
  }
  ::setrlimit(RLIMIT_FSIZE, &old_limit);
  std::signal(SIGXFSZ, old_handler);
  EXPECT_THAT(entries(), testing::IsEmpty());
}

TEST(Convert, RefusesWhatGgufCannotSay) {
  const ScratchFolder scratch;
  std::filesystem::copy(kGolden + "models/qwen2", scratch / "source");
  Json config = Json::parse_file(scratch / "source/config.json");
  config.set("use_sliding_window", true).set("sliding_window", 16).set("max_window_layers", 2);
  std::filesystem::remove(scratch / "source/config.json");
  write_file(scratch / "source/config.json", config.dump());
  expect_error(ErrorCode::kUnsupported, {"GGUF metadata cannot describe", "layer 2: attention window"},
               [&] { convert(scratch / "source", scratch / "out.gguf", ModelFormat::kGguf); });
  convert(scratch / "source", scratch / "out", ModelFormat::kMlx);
}

TEST(Convert, RefusesATokenizerThatIsLargerThanTheModel) {
  const ScratchFolder scratch;
  std::filesystem::copy(kGolden + "models/llama_tied", scratch / "source");
  std::filesystem::copy_file(kGolden + "e2e/r1_chat/tokenizer.json", scratch / "source/tokenizer.json");
  expect_error(ErrorCode::kUnsupported, {"ids up to 1023", "0 to 287"},
               [&] { convert(scratch / "source", scratch / "out.gguf", ModelFormat::kGguf); });
}

TEST(Convert, CarriesNoCode) {
  const ScratchFolder scratch;
  std::filesystem::copy(kGolden + "models/llama_tied", scratch / "source");
  Json config = Json::parse_file(scratch / "source/config.json");
  config.set("auto_map", Json::object().set("AutoModel", "someone/model--evil.Model"));
  std::filesystem::remove(scratch / "source/config.json");
  write_file(scratch / "source/config.json", config.dump());
  scratch.write("source/evil.py", "print('run')");
  convert(scratch / "source", scratch / "a.gguf", ModelFormat::kGguf);
  convert(scratch / "a.gguf", scratch / "out", ModelFormat::kHuggingFace);
  EXPECT_EQ(open_checkpoint(scratch / "out").config.find("auto_map"), nullptr);
  convert(scratch / "source", scratch / "copy", ModelFormat::kMlx);
  EXPECT_FALSE(file_exists(scratch / "copy/evil.py"));
}

TEST(Convert, DistrustsACarriedConfigThatDiffers) {
  const ScratchFolder scratch;
  convert(kGolden + "models/llama_tied", scratch / "a.gguf", ModelFormat::kGguf);
  std::string bytes = read_file(scratch / "a.gguf", size_t{64} << 20);
  const std::string key = "\"num_attention_heads\":4";
  const size_t at = bytes.find(key);
  ASSERT_NE(at, std::string::npos);
  bytes[at + key.size() - 1] = '2';
  scratch.write("b.gguf", bytes);
  const ConvertReport report = convert(scratch / "b.gguf", scratch / "out", ModelFormat::kHuggingFace);
  ASSERT_FALSE(report.notes.empty());
  EXPECT_THAT(report.notes.front(), HasSubstr("mobilellm.config is not used"));
  EXPECT_EQ(open_checkpoint(scratch / "out").config.find("num_attention_heads")->as_int(), 4);
  expect_same_tensors(*open_checkpoint(kGolden + "models/llama_tied").weights,
                      *open_checkpoint(scratch / "out").weights, false);
}

}  // namespace
}  // namespace mobilellm
