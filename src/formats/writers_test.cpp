// Tests of both writers by reading back with the readers.
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "base/files.h"
#include "base/json.h"
#include "formats/checkpoint_dir.h"
#include "formats/gguf.h"
#include "formats/gguf_writer.h"
#include "formats/safetensors.h"
#include "formats/safetensors_writer.h"
#include "tests/support/scratch_folder.h"

namespace mobilellm {
namespace {

using testing::ElementsAre;

std::string pattern(size_t n_bytes, int seed) {
  std::string bytes(n_bytes, '\0');
  for (size_t i = 0; i < n_bytes; ++i) bytes[i] = static_cast<char>(i * 31 + static_cast<size_t>(seed) * 7);
  return bytes;
}

PlannedTensor plan(std::string name, DType dtype, std::vector<int64_t> shape, int seed) {
  PlannedTensor tensor;
  tensor.name = std::move(name);
  tensor.dtype = dtype;
  tensor.shape = std::move(shape);
  const size_t n_bytes = planned_bytes(tensor);
  tensor.write = [n_bytes, seed](const ByteSink& sink) {
    const std::string bytes = pattern(n_bytes, seed);
    // In pieces of odd sizes.
    for (size_t i = 0; i < n_bytes; i += 7) {
      sink(std::as_bytes(std::span(bytes).subspan(i, std::min<size_t>(7, n_bytes - i))));
    }
  };
  return tensor;
}

void expect_tensor(const WeightSource& source, const PlannedTensor& planned, int seed) {
  const TensorView& tensor = source.get(planned.name);
  EXPECT_EQ(tensor.dtype, planned.dtype) << planned.name;
  EXPECT_EQ(tensor.shape, planned.shape) << planned.name;
  const std::string expected = pattern(planned_bytes(planned), seed);
  ASSERT_EQ(tensor.data.size(), expected.size()) << planned.name;
  EXPECT_EQ(std::memcmp(tensor.data.data(), expected.data(), expected.size()), 0) << planned.name;
}

std::vector<PlannedTensor> mixed_plan() {
  std::vector<PlannedTensor> tensors;
  tensors.push_back(plan("b.weight", DType::kBF16, {3, 5}, 1));
  tensors.push_back(plan("scales \"quoted\" \xC3\xA9", DType::kU8, {3}, 2));
  tensors.push_back(plan("a.weight", DType::kF32, {2, 3}, 3));
  tensors.push_back(plan("scalar", DType::kI64, {}, 4));
  tensors.push_back(plan("empty", DType::kF16, {0, 4}, 5));
  tensors.push_back(plan("packed", DType::kU32, {2, 8}, 6));
  return tensors;
}

TEST(SafetensorsWriter, ReadsBackAligned) {
  const ScratchFolder scratch;
  const auto tensors = mixed_plan();
  write_safetensors(scratch / "m.safetensors", tensors, {{"format", "mlx"}, {"by", "t\"e\nst"}});
  const auto file = open_safetensors(scratch / "m.safetensors");
  EXPECT_EQ(*file->find_metadata("format"), "mlx");
  EXPECT_EQ(*file->find_metadata("by"), "t\"e\nst");
  ASSERT_EQ(file->tensors().size(), tensors.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    expect_tensor(*file, tensors[i], static_cast<int>(i) + 1);
    const auto address = reinterpret_cast<uintptr_t>(file->get(tensors[i].name).data.data());
    EXPECT_EQ(address % dtype_info(tensors[i].dtype).block_bytes, 0u) << tensors[i].name;
  }
}

TEST(SafetensorsWriter, ShardsByLimitWithAnIndex) {
  const ScratchFolder scratch;
  StagedOutput output(scratch / "out", StagedOutput::Kind::kFolder);
  std::vector<PlannedTensor> tensors;
  for (int i = 0; i < 5; ++i) tensors.push_back(plan("t" + std::to_string(4 - i), DType::kF32, {10, 10}, i));
  SafetensorsModelOptions options;
  options.metadata = {{"format", "pt"}};
  options.max_shard_bytes = 1000;  // Two tensors of 400 bytes.
  options.n_parameters = 500;
  write_safetensors_model(output, tensors, options);
  output.commit();
  const std::string folder = scratch / "out/";
  const Json index = Json::parse_file(folder + "model.safetensors.index.json");
  EXPECT_EQ(index.find("metadata")->find("total_size")->as_int(), 2000);
  EXPECT_EQ(index.find("metadata")->find("total_parameters")->as_int(), 500);
  std::vector<std::string> names;
  for (const auto& [name, file] : index.find("weight_map")->as_object()) names.push_back(name + " " + file.as_string());
  EXPECT_THAT(names, ElementsAre("t0 model-00003-of-00003.safetensors", "t1 model-00002-of-00003.safetensors",
                                 "t2 model-00002-of-00003.safetensors", "t3 model-00001-of-00003.safetensors",
                                 "t4 model-00001-of-00003.safetensors"));
  const auto source = open_safetensors_index(folder + "model.safetensors.index.json");
  for (int i = 0; i < 5; ++i) expect_tensor(*source, tensors[static_cast<size_t>(i)], i);
}

TEST(SafetensorsWriter, OneFileHasAnIndexOnlyWhenAsked) {
  const ScratchFolder scratch;
  const auto tensors = mixed_plan();
  for (const bool wants_index : {false, true}) {
    StagedOutput output(scratch / (wants_index ? "with" : "without"), StagedOutput::Kind::kFolder);
    SafetensorsModelOptions options;
    options.always_index = wants_index;
    write_safetensors_model(output, tensors, options);
    EXPECT_TRUE(file_exists(output.file("model.safetensors")));
    EXPECT_EQ(file_exists(output.file("model.safetensors.index.json")), wants_index);
  }
}

TEST(SafetensorsWriter, RefusesWhatTheFormatLacks) {
  const ScratchFolder scratch;
  std::vector<PlannedTensor> tensors;
  tensors.push_back(plan("q", DType::kQ4_0, {2, 32}, 1));
  expect_error(ErrorCode::kInvalidArgument, {"'q'", "Q4_0"}, [&] { write_safetensors(scratch / "a", tensors, {}); });
  tensors = mixed_plan();
  tensors.push_back(tensors.front());
  expect_error(ErrorCode::kInvalidArgument, {"b.weight", "twice"},
               [&] { write_safetensors(scratch / "b", tensors, {}); });
  EXPECT_FALSE(file_exists(scratch / "a"));
  EXPECT_FALSE(file_exists(scratch / "b"));
}

TEST(PlannedTensor, AWrongNumberOfBytesIsADefect) {
  const ScratchFolder scratch;
  std::vector<PlannedTensor> tensors;
  tensors.push_back(plan("short", DType::kF32, {4}, 1));
  tensors.back().write = [](const ByteSink& sink) { sink(std::as_bytes(std::span("abc"))); };
  expect_error(ErrorCode::kInternal, {"short", "16"}, [&] { write_safetensors(scratch / "a", tensors, {}); });
  expect_error(ErrorCode::kInternal, {"short", "16"}, [&] { write_gguf(scratch / "b", {}, tensors); });
}

GgufMetadata all_types() {
  GgufMetadata metadata;
  metadata.set("general.architecture", std::string("test"));
  metadata.set("u16", uint16_t{65535});
  metadata.set("u32", uint32_t{4294967295U});
  metadata.set("i32", int32_t{-5});
  metadata.set("u64", uint64_t{1} << 40);
  metadata.set("f32", 1.5F);
  metadata.set("bool", true);
  metadata.set("text", std::string("h\xC3\xA9llo\0x", 8));
  metadata.set("u32s", std::vector<uint32_t>{1, 2});
  metadata.set("i32s", std::vector<int32_t>{-1, 7});
  metadata.set("f32s", std::vector<float>{0.25F, -3.0F});
  metadata.set("bools", std::vector<bool>{true, false, true});
  metadata.set("strings", std::vector<std::string>{"", "a b"});
  metadata.set("i32", int32_t{-6});  // Replaces.
  return metadata;
}

TEST(GgufWriter, ReadsBackWithEveryType) {
  const ScratchFolder scratch;
  std::vector<PlannedTensor> tensors;
  int seed = 0;
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16, DType::kQ4_0, DType::kQ4_1, DType::kQ5_1,
                            DType::kQ8_0, DType::kMXFP4, DType::kI32}) {
    tensors.push_back(plan(std::string("t.") + dtype_name(dtype), dtype, {3, 64}, seed++));
  }
  tensors.push_back(plan("vector", DType::kF32, {5}, seed++));
  for (const size_t alignment : {size_t{32}, size_t{128}}) {
    const std::string path = scratch / fmt::format("{}.gguf", alignment);
    write_gguf(path, all_types(), tensors, alignment);
    const auto file = GgufFile::open(path);
    EXPECT_EQ(file->version(), 3u);
    EXPECT_EQ(file->alignment(), alignment);
    EXPECT_EQ(file->get_int("u16", 0, 1 << 20), 65535);
    EXPECT_EQ(file->get_int("u32", 0, INT64_MAX), 4294967295);
    EXPECT_EQ(file->get_int("i32", -10, 10), -6);
    EXPECT_EQ(file->get_int("u64", 0, INT64_MAX), int64_t{1} << 40);
    EXPECT_EQ(file->get_number("f32"), 1.5);
    EXPECT_TRUE(file->get_bool("bool", false));
    EXPECT_EQ(file->get_string("text"), std::string_view("h\xC3\xA9llo\0x", 8));
    EXPECT_THAT(file->get_ints("u32s"), ElementsAre(1, 2));
    EXPECT_THAT(file->get_ints("i32s"), ElementsAre(-1, 7));
    EXPECT_THAT(file->get_floats("f32s"), ElementsAre(0.25F, -3.0F));
    EXPECT_THAT(file->get_ints("bools"), ElementsAre(1, 0, 1));
    EXPECT_THAT(file->get_strings("strings"), ElementsAre("", "a b"));
    ASSERT_EQ(file->tensors().size(), tensors.size());
    for (size_t i = 0; i < tensors.size(); ++i) expect_tensor(*file, tensors[i], static_cast<int>(i));
  }
}

TEST(GgufWriter, SplitsBySize) {
  const ScratchFolder scratch;
  StagedOutput output(scratch / "out", StagedOutput::Kind::kFolder);
  std::vector<PlannedTensor> tensors;
  for (int i = 0; i < 3; ++i) tensors.push_back(plan("t" + std::to_string(i), DType::kF32, {10, 10}, i));
  EXPECT_THAT(write_gguf_set(output, "model", all_types(), tensors, 500),
              ElementsAre("model-00001-of-00003.gguf", "model-00002-of-00003.gguf", "model-00003-of-00003.gguf"));
  output.commit();
  const auto file = GgufFile::open(scratch / "out/model-00002-of-00003.gguf");
  EXPECT_EQ(file->n_shards(), 3u);
  EXPECT_EQ(file->get_string("general.architecture"), "test");
  for (int i = 0; i < 3; ++i) expect_tensor(*file, tensors[static_cast<size_t>(i)], i);
}

TEST(GgufWriter, RefusesWhatTheFormatLacks) {
  const ScratchFolder scratch;
  const auto refuse = [&](PlannedTensor tensor, const std::string& problem) {
    const std::vector<PlannedTensor> tensors = {std::move(tensor)};
    expect_error(ErrorCode::kInvalidArgument, {problem}, [&] { write_gguf(scratch / "x.gguf", {}, tensors); });
    EXPECT_FALSE(file_exists(scratch / "x.gguf"));
  };
  refuse(plan("packed", DType::kU32, {4}, 1), "U32");
  refuse(plan("deep", DType::kF32, {1, 1, 1, 1, 1}, 1), "5 dimensions");
  refuse(plan(std::string(64, 'n'), DType::kF32, {1}, 1), "64 bytes");
  std::vector<PlannedTensor> twice;
  for (int i = 0; i < 2; ++i) twice.push_back(plan("same", DType::kF32, {1}, i));
  expect_error(ErrorCode::kInvalidArgument, {"same", "twice"}, [&] { write_gguf(scratch / "x.gguf", {}, twice); });
}

}  // namespace
}  // namespace mobilellm
