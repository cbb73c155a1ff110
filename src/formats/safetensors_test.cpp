// Safetensors files: what is read, and every way in which a file or an index can be wrong.
#include "formats/safetensors.h"

#include <fmt/core.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstring>

#include "base/mapped_file.h"
#include "tests/support/scratch_folder.h"

namespace mobilellm {
namespace {

// A file of `header` and `n_data` bytes 0, 1, 2 ...
std::string file_bytes(const std::string& header, size_t n_data) {
  const uint64_t n = header.size();
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &n, 8);
  bytes += header;
  for (size_t i = 0; i < n_data; ++i) bytes.push_back(static_cast<char>(i));
  return bytes;
}

std::string entry(const std::string& name, const std::string& dtype, const std::string& shape, uint64_t begin,
                  uint64_t end) {
  return fmt::format(R"("{}":{{"dtype":"{}","shape":{},"data_offsets":[{},{}]}})", name, dtype, shape, begin, end);
}

class Safetensors : public ::testing::Test {
 protected:
  ScratchFolder folder_;

  std::shared_ptr<SafetensorsSource> open_bytes(const std::string& bytes) const {
    return open_safetensors(folder_.write("x.safetensors", bytes));
  }
  void expect_refused(const std::string& header, size_t n_data, std::initializer_list<std::string> parts,
                      ErrorCode code = ErrorCode::kCorruptData) const {
    std::vector<std::string> all = {"x.safetensors"};
    all.insert(all.end(), parts);
    try {
      open_bytes(file_bytes(header, n_data));
      ADD_FAILURE() << "no error for " << header.substr(0, 300);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), code) << error.what();
      for (const std::string& part : all) {
        EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << "'" << part << "' in: " << error.what();
      }
    }
  }
};

TEST_F(Safetensors, ReadsTensorsAndMetadata) {
  const auto source = open_bytes(
      file_bytes(R"({"__metadata__":{"format":"pt","a\"b":""}, )" + entry("b", "BF16", "[2, 3]", 4, 16) + "," +
                     entry("a", "F32", "[]", 0, 4) + "," + entry("e", "I64", "[0, 5]", 16, 16) + "}   ",
                 16));
  ASSERT_EQ(source->tensors().size(), 3U);
  EXPECT_EQ(source->tensors()[0].name, "b");
  const TensorView& b = source->get("b");
  EXPECT_EQ(b.dtype, DType::kBF16);
  EXPECT_EQ(b.shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(b.data.size(), 12U);
  EXPECT_EQ(b.data[0], std::byte{4});
  EXPECT_EQ(source->get("a").n_values(), 1);
  EXPECT_EQ(source->get("e").n_values(), 0);
  EXPECT_EQ(*source->find_metadata("format"), "pt");
  EXPECT_EQ(*source->find_metadata("a\"b"), "");
  EXPECT_EQ(source->find_metadata("none"), nullptr);
  EXPECT_EQ(source->find("c"), nullptr);
  EXPECT_EQ(source->total_bytes(), 16U);
  expect_error(ErrorCode::kNotFound, {"'c'", "x.safetensors"}, [&] { source->get("c"); });
  source->release(b);
  EXPECT_EQ(b.data[11], std::byte{15});
}

TEST_F(Safetensors, ReadsEveryTypeAtAnyOffset) {
  std::string header = "{";
  uint64_t offset = 0;
  for (const char* name : {"BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "I16", "U16", "F16", "BF16", "I32", "U32", "F32",
                           "I64", "U64", "F64"}) {
    const uint64_t n_bytes = dtype_info(*find_dtype(name)).block_bytes;
    header += entry(name, name, "[1]", offset, offset + n_bytes) + ",";
    offset += n_bytes;
  }
  header.back() = '}';
  const auto source = open_bytes(file_bytes(header, offset));
  EXPECT_EQ(source->tensors().size(), 15U);
  for (const TensorView& tensor : source->tensors()) EXPECT_EQ(tensor.name, tensor.type_name());
}

TEST_F(Safetensors, ReadsAnEmptyFileOfTensors) {
  EXPECT_TRUE(open_bytes(file_bytes("{}", 0))->tensors().empty());
  EXPECT_TRUE(open_bytes(file_bytes(R"({"__metadata__":null})", 0))->tensors().empty());
}

TEST_F(Safetensors, RefusesHeaderLengths) {
  const std::string good = file_bytes("{" + entry("a", "U8", "[4]", 0, 4) + "}", 4);
  for (const uint64_t n : {uint64_t{0}, uint64_t{1}, uint64_t{3}, uint64_t{good.size() - 7}, uint64_t{100'000'001},
                           uint64_t{1} << 32, uint64_t{1} << 63, ~uint64_t{0}, ~uint64_t{7}}) {
    std::string bytes = good;
    std::memcpy(bytes.data(), &n, 8);
    expect_error(ErrorCode::kCorruptData, {"x.safetensors", "header"}, [&] { open_bytes(bytes); });
  }
}

TEST_F(Safetensors, RefusesTruncationAtEveryByte) {
  const std::string good = file_bytes(
      R"({"__metadata__":{"k":"v"},)" + entry("a", "F16", "[2,2]", 0, 8) + "," + entry("b", "U8", "[3]", 8, 11) + "}",
      11);
  ASSERT_EQ(open_bytes(good)->tensors().size(), 2U);
  for (size_t n = 0; n < good.size(); ++n) {
    expect_error(ErrorCode::kCorruptData, {"x.safetensors"}, [&] { open_bytes(good.substr(0, n)); });
  }
  expect_error(ErrorCode::kCorruptData, {"x.safetensors", "11 of the 12"}, [&] { open_bytes(good + "x"); });
}

// A header cut anywhere, with a length that fits.
TEST_F(Safetensors, RefusesHeadersCutAtEveryByte) {
  const std::string header = R"({"__metadata__":{"k":"\u00e9v"},)" + entry("a", "F16", "[2,2]", 0, 8) + "}";
  for (size_t n = 0; n < header.size(); ++n) expect_refused(header.substr(0, n), 8, {});
}

TEST_F(Safetensors, RefusesRanges) {
  expect_refused("{" + entry("t", "U8", "[4]", 4, 0) + "}", 4, {"'t'", "[4, 0]"});
  expect_refused("{" + entry("t", "U8", "[4]", 1, 5) + "}", 4, {"'t'", "[1, 5]"});
  expect_refused("{" + entry("t", "U8", "[4]", 1, 5) + "}", 5, {"'t'", "gap"});
  expect_refused("{" + entry("t", "U8", "[3]", 0, 4) + "}", 4, {"'t'", "4 bytes", "[3]"});
  expect_refused("{" + entry("t", "F32", "[4]", 0, 4) + "}", 4, {"'t'", "F32", "[4]"});
  expect_refused("{" + entry("t", "U8", "[4]", ~uint64_t{0} - 3, ~uint64_t{0}) + "}", 4, {"'t'"});
  const std::string a = entry("a", "U8", "[4]", 0, 4);
  expect_refused("{" + a + "," + entry("t", "U8", "[4]", 3, 7) + "}", 7, {"'t'", "overlap"});
  expect_refused("{" + a + "," + entry("t", "U8", "[4]", 0, 4) + "}", 4, {"overlap"});
  expect_refused("{" + a + "," + entry("t", "U8", "[4]", 5, 9) + "}", 9, {"'t'", "gap"});
  expect_refused("{" + a + "," + entry("t", "U8", "[0]", 2, 2) + "}", 4, {"'t'", "overlap"});
  expect_refused("{" + a + "}", 5, {"cover 4 of the 5"});
}

TEST_F(Safetensors, RefusesShapesThatOverflow) {
  for (const char* shape : {"[9223372036854775807, 2]", "[4294967296, 4294967296]", "[18446744073709551615]",
                            "[0, 9223372036854775807, 9223372036854775807]"}) {
    expect_refused("{" + entry("t", "F32", shape, 0, 0) + "}", 0, {"'t'"});
  }
  expect_refused("{" + entry("t", "F64", "[2305843009213693952]", 0, 0) + "}", 0, {"'t'"});
  std::string many = "[1";
  for (int i = 0; i < 50'000; ++i) many += ",1";
  expect_refused("{" + entry("t", "U8", many + "]", 0, 1) + "}", 1, {"'t'", "dimensions"});
}

TEST_F(Safetensors, RefusesWrongNumbers) {
  for (const char* shape : {"[-1]", "[1.0]", "[1e0]", "[\"1\"]", "[null]", "[[1]]", "{}", "1", "[1",
                            "[18446744073709551616]", "[NaN]", "[1,]", "[,1]", "[01]"}) {
    expect_refused("{" + entry("t", "U8", shape, 0, 1) + "}", 1, {"t"});
  }
  for (const char* offsets : {"[0]", "[]", "[0,1,1]", "[0,-1]", "[0,1.5]", "\"01\"", "null", "{}"}) {
    expect_refused(fmt::format(R"({{"t":{{"dtype":"U8","shape":[1],"data_offsets":{}}}}})", offsets), 1,
                   {"'t'", "data_offsets"});
  }
}

TEST_F(Safetensors, RefusesWrongEntries) {
  expect_refused(R"({"t":{"shape":[1],"data_offsets":[0,1]}})", 1, {"'t'", "dtype"});
  expect_refused(R"({"t":{"dtype":"U8","data_offsets":[0,1]}})", 1, {"'t'", "shape"});
  expect_refused(R"({"t":{"dtype":"U8","shape":[1]}})", 1, {"'t'", "data_offsets"});
  expect_refused(R"({"t":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1, {"'t'", "dtype"});
  expect_refused(R"({"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":{"y":[]}}})", 1, {"'t'", "'x'"});
  expect_refused(R"({"t":{"dtype":1,"shape":[1],"data_offsets":[0,1]}})", 1, {"'t'", "dtype"});
  expect_refused(R"({"t":[]})", 0, {"'t'"});
  expect_refused(R"({"t":null})", 0, {"'t'"});
  for (const char* dtype : {"Q4_K", "f32", "", "F4", "MXFP4"}) {
    expect_refused("{" + entry("t", dtype, "[0]", 0, 0) + "}", 0, {"'t'", "dtype"}, ErrorCode::kUnsupported);
  }
}

TEST_F(Safetensors, RefusesDuplicates) {
  expect_refused("{" + entry("t", "U8", "[1]", 0, 1) + "," + entry("t", "U8", "[1]", 1, 2) + "}", 2, {"'t'", "twice"});
  // The same name written in two ways.
  expect_refused("{" + entry("t", "U8", "[1]", 0, 1) + "," + entry("\\u0074", "U8", "[1]", 1, 2) + "}", 2,
                 {"'t'", "twice"});
  expect_refused(R"({"__metadata__":{},"__metadata__":{}})", 0, {"__metadata__", "twice"});
  expect_refused(R"({"__metadata__":{"a":"1","a":"2"}})", 0, {"__metadata__", "'a'", "twice"});
}

TEST_F(Safetensors, RefusesWrongMetadata) {
  for (const char* metadata : {"[]", "1", "\"x\"", R"({"a":1})", R"({"a":null})", R"({"a":{}})", "nulx"}) {
    expect_refused(fmt::format(R"({{"__metadata__":{}}})", metadata), 0, {"__metadata__"});
  }
}

TEST_F(Safetensors, RefusesTextThatIsNoJsonObject) {
  for (const char* header : {"[]", "  {}", "{}{}", "{} x", "{}]", "{", "{\"a\"}", "{\"a\":}", "{'a':1}", "{]",
                             "{\"\xFF\":1}", "{\"\\ud800\":{}}", "{\"a\\x\":{}}", "\xEF\xBB\xBF{}", "nu"}) {
    expect_refused(header, 0, {});
  }
  expect_refused(std::string("{\0}", 3), 0, {});
  std::string deep = "{\"a\":";
  for (int i = 0; i < 100'000; ++i) deep += "[";
  expect_refused(deep, 0, {});
}

// Time must grow linearly: a quadratic reader would need minutes for this.
TEST_F(Safetensors, ReadsAHundredThousandTensorsQuickly) {
  constexpr int kTensors = 100'000;
  std::string header = "{";
  for (int i = 0; i < kTensors; ++i) {
    if (i > 0) header += ",";
    header += entry(fmt::format("model.layers.{}.weight", i), "U8", "[1,1]", static_cast<uint64_t>(i),
                    static_cast<uint64_t>(i) + 1);
  }
  const std::string bytes = file_bytes(header + "}", kTensors);
  const auto start = std::chrono::steady_clock::now();
  const auto source = open_bytes(bytes);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  EXPECT_EQ(source->tensors().size(), static_cast<size_t>(kTensors));
  EXPECT_NE(source->find("model.layers.99999.weight"), nullptr);
  EXPECT_LT(seconds.count(), 20.0);
}

TEST_F(Safetensors, RefusesPathsThatAreNoFile) {
  expect_error(ErrorCode::kNotFound, {"absent.safetensors"}, [&] { open_safetensors(folder_ / "absent.safetensors"); });
  expect_error(ErrorCode::kIo, {folder_.path()}, [&] { open_safetensors(folder_.path()); });
  const std::string fifo = folder_ / "fifo.safetensors";
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  expect_error(ErrorCode::kIo, {"fifo.safetensors"}, [&] { open_safetensors(fifo); });
  const std::string loop = folder_ / "loop.safetensors";
  ASSERT_EQ(::symlink(loop.c_str(), loop.c_str()), 0);
  expect_error(ErrorCode::kIo, {"loop.safetensors"}, [&] { open_safetensors(loop); });
  expect_error(ErrorCode::kIo, {"/dev/null"}, [] { open_safetensors("/dev/null"); });
  if (::geteuid() != 0) {
    const std::string secret = folder_.write("secret.safetensors", file_bytes("{}", 0));
    ASSERT_EQ(::chmod(secret.c_str(), 0), 0);
    expect_error(ErrorCode::kIo, {"secret.safetensors"}, [&] { open_safetensors(secret); });
  }
  expect_error(ErrorCode::kCorruptData, {"empty.safetensors"},
               [&] { open_safetensors(folder_.write("empty.safetensors", "")); });
}

TEST_F(Safetensors, NoticesAFileThatChanged) {
  const std::string path = folder_.write("x.safetensors", file_bytes("{}", 0));
  const auto source = open_safetensors(path);
  EXPECT_NO_THROW(source->check_unchanged());
  folder_.write("x.safetensors", file_bytes("{  }", 0));
  expect_error(ErrorCode::kIo, {"x.safetensors"}, [&] { source->check_unchanged(); });
}

class SafetensorsIndex : public Safetensors {
 protected:
  SafetensorsIndex() {
    folder_.write("one.safetensors",
                  file_bytes("{" + entry("a", "U8", "[1]", 0, 1) + "," + entry("x", "U8", "[1]", 1, 2) + "}", 2));
    folder_.write("two.safetensors",
                  file_bytes("{" + entry("b", "U8", "[2]", 1, 3) + "," + entry("x", "U8", "[1]", 0, 1) + "}", 3));
  }
  std::shared_ptr<SafetensorsSource> open_index(const std::string& weight_map) const {
    return open_safetensors_index(
        folder_.write("m.index.json", R"({"metadata":{"total_size":5},"weight_map":)" + weight_map + "}"));
  }
};

TEST_F(SafetensorsIndex, JoinsShards) {
  const auto source = open_index(R"({"a":"one.safetensors","b":"two.safetensors","x":"two.safetensors"})");
  EXPECT_EQ(source->tensors().size(), 3U);
  EXPECT_EQ(source->get("b").data.size(), 2U);
  // The index decides between two tensors of one name.
  EXPECT_TRUE(source->get("x").file->path().ends_with("two.safetensors"));
  EXPECT_EQ(source->path(), folder_ / "m.index.json");
  EXPECT_NO_THROW(source->check_unchanged());
}

TEST_F(SafetensorsIndex, RefusesNamesOutsideTheFolder) {
  for (const char* shard : {"../one.safetensors", "/one.safetensors", "a/one.safetensors", "a\\\\one.safetensors", "..",
                            ".", "", "one.safetensors\\u0000", "one.bin", "C:one.safetensors", "\\n.safetensors"}) {
    expect_error(ErrorCode::kCorruptData, {"m.index.json", "weight_map.a"},
                 [&] { open_index(fmt::format(R"({{"a":"{}"}})", shard)); });
  }
}

TEST_F(SafetensorsIndex, NamesWhatIsMissing) {
  expect_error(ErrorCode::kNotFound, {"m.index.json", "three.safetensors"},
               [&] { open_index(R"({"a":"three.safetensors"})"); });
  expect_error(ErrorCode::kCorruptData, {"m.index.json", "'c'", "one.safetensors"},
               [&] { open_index(R"({"a":"one.safetensors","c":"one.safetensors"})"); });
  expect_error(ErrorCode::kCorruptData, {"'a'", "two.safetensors"},
               [&] { open_index(R"({"a":"two.safetensors","b":"two.safetensors","x":"one.safetensors"})"); });
}

TEST_F(SafetensorsIndex, RefusesTensorsInTwoShards) {
  expect_error(ErrorCode::kCorruptData, {"'x'", "twice"},
               [&] { open_index(R"({"a":"one.safetensors","b":"two.safetensors"})"); });
  expect_error(ErrorCode::kCorruptData, {"'x'", "twice"},
               [&] { open_safetensors_shards({folder_ / "one.safetensors", folder_ / "two.safetensors"}); });
}

TEST_F(SafetensorsIndex, RefusesWrongIndexes) {
  for (const char* map : {"{}", "[]", "null", "\"x\"", R"({"a":1})", R"({"a":null})",
                          R"({"a":"one.safetensors","a":"one.safetensors"})"}) {
    expect_error(ErrorCode::kCorruptData, {"m.index.json"}, [&] { open_index(map); });
  }
  const std::string text = R"({"metadata":{},"weight_map":{"a":"one.safetensors"}})";
  for (size_t n = 0; n < text.size(); ++n) {
    expect_error(ErrorCode::kCorruptData, {"cut.index.json"},
                 [&] { open_safetensors_index(folder_.write("cut.index.json", text.substr(0, n))); });
  }
  expect_error(ErrorCode::kNotFound, {"none.index.json"}, [&] { open_safetensors_index(folder_ / "none.index.json"); });
}

}  // namespace
}  // namespace mobilellm
