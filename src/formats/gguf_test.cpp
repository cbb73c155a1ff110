// GGUF files: metadata of every type, split files, and every way in which a file can be wrong.
#include "formats/gguf.h"

#include <fmt/core.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <functional>

#include "base/json.h"
#include "tests/support/scratch_folder.h"

namespace mobilellm {
namespace {

const std::string kQuants = MOBILELLM_SOURCE_DIR "/tests/vectors/codec/quants.gguf";

// Writes a file piece by piece.
class Writer {
 public:
  template <typename T>
  Writer& put(T value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof(value));
    return *this;
  }
  Writer& text(std::string_view value) {
    put<uint64_t>(value.size());
    bytes_.append(value);
    return *this;
  }
  Writer& begin(uint64_t n_tensors, uint64_t n_keys, uint32_t version = 3) {
    bytes_ += "GGUF";
    return put(version).put(n_tensors).put(n_keys);
  }
  template <typename T>
  Writer& key(std::string_view name, GgufType type, T value) {
    return text(name).put(static_cast<uint32_t>(type)).put(value);
  }
  Writer& string_key(std::string_view name, std::string_view value) {
    return text(name).put(static_cast<uint32_t>(GgufType::kString)).text(value);
  }
  Writer& array_key(std::string_view name, GgufType element, uint64_t n) {
    return text(name).put(static_cast<uint32_t>(GgufType::kArray)).put(static_cast<uint32_t>(element)).put(n);
  }
  Writer& tensor(std::string_view name, const std::vector<uint64_t>& dims, uint32_t type, uint64_t offset) {
    text(name).put(static_cast<uint32_t>(dims.size()));
    for (const uint64_t dimension : dims) put(dimension);
    return put(type).put(offset);
  }
  Writer& data(size_t n_bytes, size_t alignment = 32) {
    bytes_.resize((bytes_.size() + alignment - 1) / alignment * alignment);
    for (size_t i = 0; i < n_bytes; ++i) bytes_.push_back(static_cast<char>(i));
    return *this;
  }
  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

constexpr uint32_t kTypeF32 = 0;
constexpr uint32_t kTypeQ4_0 = 2;
constexpr uint32_t kTypeQ4_K = 12;

class Gguf : public ::testing::Test {
 protected:
  ScratchFolder folder_;

  std::shared_ptr<GgufFile> open_bytes(const std::string& bytes) const {
    return GgufFile::open(folder_.write("x.gguf", bytes));
  }
  void expect_refused(const Writer& writer, std::initializer_list<std::string> parts,
                      ErrorCode code = ErrorCode::kCorruptData) const {
    expect_error(code, parts, [&] { open_bytes(writer.bytes()); });
    expect_error(code, {"x.gguf"}, [&] { open_bytes(writer.bytes()); });
  }
};

TEST_F(Gguf, ReadsMetadataOfEveryType) {
  const auto file = GgufFile::open(kQuants);
  EXPECT_EQ(file->version(), 3U);
  EXPECT_EQ(file->alignment(), 64U);
  EXPECT_EQ(file->n_shards(), 1U);
  EXPECT_EQ(file->keys().front(), "general.architecture");
  EXPECT_EQ(file->get_string("general.architecture"), "test");
  constexpr int64_t kMin = INT64_MIN;
  constexpr int64_t kMax = INT64_MAX;
  EXPECT_EQ(file->get_int("test.uint8", kMin, kMax), 255);
  EXPECT_EQ(file->get_int("test.int8", kMin, kMax), -128);
  EXPECT_EQ(file->get_int("test.uint16", kMin, kMax), 65535);
  EXPECT_EQ(file->get_int("test.int16", kMin, kMax), -32768);
  EXPECT_EQ(file->get_int("test.uint32", kMin, kMax), 4294967295);
  EXPECT_EQ(file->get_int("test.int32", kMin, kMax), -2147483648LL);
  EXPECT_EQ(file->get_int("test.int64", kMin, kMax), kMin);
  expect_error(ErrorCode::kCorruptData, {"test.uint64", "18446744073709551615"},
               [&] { file->get_int("test.uint64", kMin, kMax); });
  EXPECT_EQ(file->get_number("test.uint64"), 18446744073709551615.0);
  EXPECT_EQ(file->get_number("test.float32"), 1.5);
  EXPECT_EQ(file->get_number("test.float64"), 0.1);
  EXPECT_TRUE(file->get_bool("test.bool_t", false));
  EXPECT_FALSE(file->get_bool("test.bool_f", true));
  EXPECT_EQ(file->get_string("test.string"), "h\xC3\xA9llo\n\xE4\xB8\x96\xE7\x95\x8C \"q\"");
  EXPECT_EQ(file->get_strings("test.arr_str"), (std::vector<std::string_view>{"a", "", "\xC3\xBC"}));
  EXPECT_EQ(file->get_ints("test.arr_i32"), (std::vector<int64_t>{1, -2, 3}));
  EXPECT_EQ(file->get_floats("test.arr_f32"), (std::vector<float>{0.5F, -1.25F}));
  EXPECT_EQ(file->get_ints("test.arr_bool"), (std::vector<int64_t>{1, 0, 1}));
  EXPECT_EQ(file->get_floats("test.arr_i32"), (std::vector<float>{1.0F, -2.0F, 3.0F}));
}

TEST_F(Gguf, ListsTensorsOfUnknownTypes) {
  const auto file = GgufFile::open(kQuants);
  EXPECT_EQ(file->tensors().size(), 21U);
  const TensorView& known = file->get("t.q4_K");
  EXPECT_EQ(known.dtype, DType::kQ4_K);
  EXPECT_EQ(known.shape, (std::vector<int64_t>{6, 512}));
  EXPECT_EQ(known.data.size(), 1728U);
  const TensorView& unknown = file->get("t.iq3_s");
  EXPECT_EQ(unknown.unsupported_type, "IQ3_S");
  EXPECT_EQ(unknown.data.size(), 1320U);
  expect_error(ErrorCode::kUnsupported, {"t.iq3_s", "IQ3_S", "quants.gguf"}, [&] { check_supported(unknown); });
}

TEST_F(Gguf, TypedGettersNameTheKey) {
  const auto file = GgufFile::open(kQuants);
  expect_error(ErrorCode::kCorruptData, {"'no.key'", "missing", "quants.gguf"}, [&] { file->get_string("no.key"); });
  expect_error(ErrorCode::kCorruptData, {"'test.string'", "string", "integer"},
               [&] { file->get_int("test.string", 0, 1); });
  expect_error(ErrorCode::kCorruptData, {"'test.float32'", "f32"}, [&] { file->get_int("test.float32", 0, 9); });
  expect_error(ErrorCode::kCorruptData, {"'test.bool_t'", "bool"}, [&] { file->get_int("test.bool_t", 0, 9); });
  expect_error(ErrorCode::kCorruptData, {"'test.uint8'", "255", "[0, 9]"}, [&] { file->get_int("test.uint8", 0, 9); });
  expect_error(ErrorCode::kCorruptData, {"'test.uint8'", "255"}, [&] { file->get_int("test.uint8", 0, 9, 3); });
  expect_error(ErrorCode::kCorruptData, {"'test.uint8'", "u8", "bool"}, [&] { file->get_bool("test.uint8", true); });
  expect_error(ErrorCode::kCorruptData, {"'test.string'"}, [&] { file->get_number("test.string", 1.0); });
  expect_error(ErrorCode::kCorruptData, {"'test.arr_i32'", "array of i32"}, [&] { file->get_strings("test.arr_i32"); });
  expect_error(ErrorCode::kCorruptData, {"'test.arr_str'"}, [&] { file->get_ints("test.arr_str"); });
  expect_error(ErrorCode::kCorruptData, {"'test.arr_str'"}, [&] { file->get_floats("test.arr_str"); });
  expect_error(ErrorCode::kCorruptData, {"'test.arr_f32'"}, [&] { file->get_ints("test.arr_f32"); });
  EXPECT_EQ(file->get_int("no.key", 0, 9, 7), 7);
  EXPECT_EQ(file->get_number("no.key", 2.5), 2.5);
  EXPECT_TRUE(file->get_bool("no.key", true));
  EXPECT_EQ(file->get_string("no.key", "d"), "d");
  EXPECT_EQ(file->get_ints_or_repeat("test.uint8", 3, 0, 255), (std::vector<int64_t>{255, 255, 255}));
  EXPECT_EQ(file->get_ints_or_repeat("test.arr_i32", 3, -2, 3), (std::vector<int64_t>{1, -2, 3}));
  expect_error(ErrorCode::kCorruptData, {"'test.arr_i32'", "3 elements", "2"},
               [&] { file->get_ints_or_repeat("test.arr_i32", 2, -2, 3); });
  expect_error(ErrorCode::kCorruptData, {"'test.arr_i32'", "-2", "[0, 3]"},
               [&] { file->get_ints_or_repeat("test.arr_i32", 3, 0, 3); });
}

// At every byte of the header, and at some of the data.
TEST_F(Gguf, RefusesTruncationAtEveryByte) {
  const std::string path = folder_ / "x.gguf";
  std::filesystem::copy_file(kQuants, path);
  constexpr size_t kEndOfData = 56'544;  // Only padding follows.
  for (size_t n = kEndOfData - 1; n > 0; n -= n > 1800 ? 511 : 1) {
    std::filesystem::resize_file(path, n);
    expect_error(ErrorCode::kCorruptData, {"x.gguf"}, [&] { GgufFile::open(path); });
  }
}

TEST_F(Gguf, ReadsSmallFiles) {
  EXPECT_TRUE(open_bytes(Writer().begin(0, 0).bytes())->tensors().empty());
  EXPECT_EQ(open_bytes(Writer().begin(0, 0, 2).bytes())->version(), 2U);
  const auto file = open_bytes(Writer()
                                   .begin(2, 0)
                                   .tensor("b", {32, 3}, kTypeQ4_0, 32)
                                   .tensor("a", {2, 1, 3, 1}, kTypeF32, 96)
                                   .data(120)
                                   .bytes());
  EXPECT_EQ(file->get("b").shape, (std::vector<int64_t>{3, 32}));
  EXPECT_EQ(file->get("b").data.size(), 54U);
  EXPECT_EQ(file->get("b").data[0], std::byte{32});
  EXPECT_EQ(file->get("a").shape, (std::vector<int64_t>{1, 3, 1, 2}));
}

TEST_F(Gguf, RefusesHeaders) {
  expect_refused(Writer().put<uint32_t>(0x46554748).put<uint32_t>(3).put<uint64_t>(0).put<uint64_t>(0), {"GGUF"});
  expect_refused(Writer().begin(0, 0, 1), {"version 1"}, ErrorCode::kUnsupported);
  expect_refused(Writer().begin(0, 0, 4), {"version 4"}, ErrorCode::kUnsupported);
  expect_refused(Writer().begin(0, 0, 0), {"version 0"}, ErrorCode::kUnsupported);
  expect_refused(Writer().begin(0, 0, 0x03000000), {"big-endian"}, ErrorCode::kUnsupported);
  for (const uint64_t n : {uint64_t{1}, uint64_t{1} << 32, uint64_t{1} << 63, ~uint64_t{0}}) {
    expect_refused(Writer().begin(n, 0), {"tensors"});
    expect_refused(Writer().begin(0, n), {"keys"});
  }
}

TEST_F(Gguf, RefusesKeys) {
  const uint32_t kU8 = 0;
  for (const uint64_t n : {uint64_t{100}, uint64_t{1} << 40, ~uint64_t{0}, ~uint64_t{7}}) {
    expect_refused(Writer().begin(0, 1).put(n).data(64, 1), {"key 1 of 1"});
    expect_refused(Writer().begin(0, 1).text("k").put<uint32_t>(8).put(n).data(64, 1), {"key 'k'"});
    expect_refused(Writer().begin(0, 1).array_key("k", GgufType::kString, n).data(64, 1), {"key 'k'"});
    expect_refused(Writer().begin(0, 1).array_key("k", GgufType::kU8, n).data(64, 1), {"key 'k'"});
    expect_refused(Writer().begin(0, 1).array_key("k", GgufType::kF64, n).data(64, 1), {"key 'k'"});
  }
  // A string of an array that is longer than the file.
  expect_refused(Writer().begin(0, 1).array_key("k", GgufType::kString, 2).text("a").put(~uint64_t{0}), {"key 'k'"});
  expect_refused(Writer().begin(0, 1).text("").put(kU8).put<uint64_t>(1), {"name of 0 bytes"});
  expect_refused(Writer().begin(0, 1).text("\xFF\xFE").put(kU8).put<uint64_t>(1), {"UTF-8"});
  expect_refused(Writer().begin(0, 1).text(std::string(65536, 'k')).put(kU8).put<uint64_t>(1), {"65536"});
  expect_refused(Writer().begin(0, 1).text("k").put<uint32_t>(13).put<uint64_t>(1), {"key 'k'", "type 13"});
  expect_refused(Writer().begin(0, 1).text("k").put(~uint32_t{0}).put<uint64_t>(1), {"key 'k'", "type"});
  expect_refused(Writer().begin(0, 1).array_key("k", static_cast<GgufType>(77), 0), {"key 'k'", "type 77"});
  expect_refused(Writer().begin(0, 1).array_key("k", GgufType::kArray, 1).data(64, 1), {"key 'k'"},
                 ErrorCode::kUnsupported);
  expect_refused(Writer().begin(0, 1).key<uint8_t>("k", GgufType::kBool, 2), {"key 'k'", "bool 2"});
  expect_refused(Writer().begin(0, 2).key<uint8_t>("k", GgufType::kU8, 1).key<uint8_t>("k", GgufType::kI8, 1),
                 {"key 'k'", "twice"});
}

TEST_F(Gguf, RefusesAlignments) {
  for (const uint32_t n : {0U, 3U, 48U, 1U << 31, ~0U}) {
    expect_refused(Writer().begin(0, 1).key("general.alignment", GgufType::kU32, n),
                   {"general.alignment", std::to_string(n)});
  }
  expect_refused(Writer().begin(0, 1).key<uint64_t>("general.alignment", GgufType::kU64, 32),
                 {"general.alignment", "u64"});
  expect_refused(Writer().begin(0, 1).string_key("general.alignment", "32"), {"general.alignment", "string"});
  EXPECT_EQ(open_bytes(Writer().begin(0, 1).key("general.alignment", GgufType::kU32, 8U).bytes())->alignment(), 8U);
}

TEST_F(Gguf, RefusesTensors) {
  const uint64_t huge = uint64_t{1} << 62;
  expect_refused(Writer().begin(1, 0).tensor("t", {}, kTypeF32, 0).data(64), {"'t'", "0 dimensions"});
  expect_refused(Writer().begin(1, 0).tensor("t", {1, 1, 1, 1, 1}, kTypeF32, 0).data(64), {"'t'", "5 dimensions"});
  expect_refused(Writer().begin(1, 0).text("t").put(~uint32_t{0}).data(64), {"'t'", "dimensions"});
  expect_refused(Writer().begin(1, 0).tensor("t", {~uint64_t{0}}, kTypeF32, 0).data(64), {"'t'"});
  expect_refused(Writer().begin(1, 0).tensor("t", {huge, 4}, kTypeF32, 0).data(64), {"'t'"});
  expect_refused(Writer().begin(1, 0).tensor("t", {huge}, kTypeF32, 0).data(64), {"'t'", "64 bits"});
  expect_refused(Writer().begin(1, 0).tensor("t", {0, huge, huge}, kTypeF32, 0).data(64), {"'t'"});
  expect_refused(Writer().begin(1, 0).tensor("t", {576}, kTypeQ4_K, 0).data(4096), {"'t'", "576", "256", "Q4_K"});
  expect_refused(Writer().begin(1, 0).tensor("t", {4}, kTypeF32, 16).data(64), {"'t'", "offset 16", "32"});
  expect_refused(Writer().begin(1, 0).tensor("t", {4}, kTypeF32, 64).data(64), {"'t'", "offset 64"});
  expect_refused(Writer().begin(1, 0).tensor("t", {17}, kTypeF32, 0).data(64), {"'t'", "68 bytes"});
  expect_refused(Writer().begin(1, 0).tensor("t", {4}, kTypeF32, ~uint64_t{31}).data(64), {"'t'", "offset"});
  expect_refused(Writer().begin(1, 0).tensor("", {4}, kTypeF32, 0).data(64), {"name of 0 bytes"});
  expect_refused(Writer().begin(1, 0).tensor("\xC3", {4}, kTypeF32, 0).data(64), {"UTF-8"});
  expect_refused(Writer().begin(2, 0).tensor("a", {4}, kTypeF32, 0).tensor("a", {4}, kTypeF32, 32).data(64),
                 {"'a'", "twice"});
  expect_refused(Writer().begin(2, 0).tensor("a", {16}, kTypeF32, 0).tensor("b", {4}, kTypeF32, 32).data(64),
                 {"'a'", "overlaps", "'b'"});
  expect_refused(Writer().begin(2, 0).tensor("a", {4}, kTypeF32, 0).tensor("b", {4}, kTypeF32, 0).data(64),
                 {"overlaps"});
}

TEST_F(Gguf, UnknownTypesSpanToTheNextTensor) {
  const auto file =
      open_bytes(Writer().begin(2, 0).tensor("a", {5}, 999, 0).tensor("b", {4}, kTypeF32, 64).data(80).bytes());
  EXPECT_EQ(file->get("a").data.size(), 64U);
  EXPECT_EQ(file->get("a").unsupported_type, "number 999");
  expect_refused(Writer().begin(1, 0).tensor("a", {5}, 999, 96).data(80), {"'a'", "96"});
}

TEST_F(Gguf, ReadsLargeVocabulariesQuickly) {
  constexpr size_t kTokens = 128'000;
  constexpr size_t kTensors = 100'000;
  Writer writer;
  writer.begin(kTensors, 1).array_key("tokenizer.ggml.tokens", GgufType::kString, kTokens);
  for (size_t i = 0; i < kTokens; ++i) writer.text(fmt::format("token{}", i));
  for (size_t i = 0; i < kTensors; ++i) writer.tensor(fmt::format("t{}", i), {1}, kTypeF32, 32 * i);
  writer.data(32 * kTensors);
  const std::string path = folder_.write("x.gguf", writer.bytes());
  const auto start = std::chrono::steady_clock::now();
  const auto file = GgufFile::open(path);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  EXPECT_LT(seconds.count(), 20.0);
  EXPECT_EQ(file->get_strings("tokenizer.ggml.tokens").back(), "token127999");
  EXPECT_NE(file->find("t99999"), nullptr);
}

TEST_F(Gguf, RefusesPathsThatAreNoFile) {
  expect_error(ErrorCode::kNotFound, {"absent.gguf"}, [&] { GgufFile::open(folder_ / "absent.gguf"); });
  expect_error(ErrorCode::kIo, {folder_.path()}, [&] { GgufFile::open(folder_.path()); });
  const std::string fifo = folder_ / "fifo.gguf";
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  expect_error(ErrorCode::kIo, {"fifo.gguf"}, [&] { GgufFile::open(fifo); });
  const std::string loop = folder_ / "loop.gguf";
  ASSERT_EQ(::symlink(loop.c_str(), loop.c_str()), 0);
  expect_error(ErrorCode::kIo, {"loop.gguf"}, [&] { GgufFile::open(loop); });
}

class GgufSplit : public Gguf {
 protected:
  // Shard `number` of `count` with one tensor, as llama.cpp's splitter writes them.
  Writer shard(uint16_t number, uint16_t count, int32_t n_tensors, const std::string& tensor) const {
    return Writer()
        .begin(1, 4)
        .key("split.no", GgufType::kU16, number)
        .key("split.count", GgufType::kU16, count)
        .key("split.tensors.count", GgufType::kI32, n_tensors)
        .string_key("general.name", fmt::format("shard {}", number))
        .tensor(tensor, {4}, kTypeF32, 0)
        .data(16);
  }
  std::string name(int number) const { return fmt::format("m-{:05}-of-00003.gguf", number + 1); }
  void write_all(int32_t n_tensors = 3) const {
    for (uint16_t i = 0; i < 3; ++i) folder_.write(name(i), shard(i, 3, n_tensors, fmt::format("t{}", i)).bytes());
  }
};

TEST_F(GgufSplit, OpensAllFilesFromAny) {
  write_all();
  for (int i = 0; i < 3; ++i) {
    const auto file = GgufFile::open(folder_ / name(i));
    EXPECT_EQ(file->n_shards(), 3U);
    ASSERT_EQ(file->tensors().size(), 3U);
    EXPECT_EQ(file->tensors()[1].name, "t1");
    EXPECT_EQ(file->get_string("general.name"), "shard 0");
    EXPECT_NO_THROW(file->check_unchanged());
  }
}

TEST_F(GgufSplit, NamesTheMissingFile) {
  write_all();
  std::filesystem::remove(folder_ / name(1));
  for (const int i : {0, 2}) {
    expect_error(ErrorCode::kNotFound, {name(1), name(i)}, [&] { GgufFile::open(folder_ / name(i)); });
  }
}

TEST_F(GgufSplit, RefusesSetsThatDoNotFit) {
  write_all(4);
  expect_error(ErrorCode::kCorruptData, {"3 tensors", "4"}, [&] { GgufFile::open(folder_ / name(0)); });
  write_all();
  folder_.write(name(1), shard(2, 3, 3, "t1").bytes());
  expect_error(ErrorCode::kCorruptData, {name(1), "split.no"}, [&] { GgufFile::open(folder_ / name(0)); });
  folder_.write(name(1), shard(1, 3, 3, "t0").bytes());
  expect_error(ErrorCode::kCorruptData, {"'t0'", "twice"}, [&] { GgufFile::open(folder_ / name(0)); });
  folder_.write(name(1), shard(1, 3, 3, "t1").bytes().substr(0, 100));
  expect_error(ErrorCode::kCorruptData, {name(1)}, [&] { GgufFile::open(folder_ / name(0)); });
  // A renamed shard, and numbers outside the count.
  expect_refused(shard(0, 3, 3, "t"), {"-00001-of-00003.gguf"});
  folder_.write(name(0), shard(7, 3, 3, "t0").bytes());
  expect_error(ErrorCode::kCorruptData, {"split.no"}, [&] { GgufFile::open(folder_ / name(0)); });
  expect_refused(Writer().begin(0, 1).string_key("split.count", "3"), {"split.count"});
  expect_refused(Writer().begin(0, 1).key<int64_t>("split.count", GgufType::kI64, -3), {"split.count", "-3"});
  EXPECT_EQ(open_bytes(shard(0, 1, 1, "t").bytes())->n_shards(), 1U);
}

}  // namespace
}  // namespace mobilellm
