// Parts that outlive their process, are checked, and belong to one identity.
#include "base/part_store.h"

#include <gtest/gtest.h>

#include <array>
#include <string>

#include "base/files.h"
#include "tests/support/scratch_folder.h"

namespace mobilellm {
namespace {

void save(PartStore& store, std::string_view name, const std::string& text) {
  const std::span<const std::byte> bytes = std::as_bytes(std::span(text));
  const size_t half = bytes.size() / 2;
  const std::array pieces = {bytes.first(half), bytes.subspan(half)};
  store.save(name, pieces);
}

std::string load(const PartStore& store, std::string_view name) {
  const auto bytes = store.load(name);
  return bytes ? std::string(reinterpret_cast<const char*>(bytes->data()), bytes->size()) : "absent";
}

TEST(PartStore, PartsOfTheSameIdentityStay) {
  const ScratchFolder scratch;
  const std::string folder = scratch / ".kept";
  {
    PartStore store(folder, "a run");
    EXPECT_EQ(load(store, "one"), "absent");
    save(store, "one", "first");
    save(store, "two", "second part");
    save(store, "one", "first, again");
    EXPECT_EQ(store.n_parts(), 2);
  }
  {
    PartStore store(folder, "a run");
    EXPECT_EQ(store.n_parts(), 2);
    EXPECT_EQ(load(store, "one"), "first, again");
    EXPECT_EQ(load(store, "two"), "second part");
  }
  PartStore other(folder, "another run");
  EXPECT_EQ(other.n_parts(), 0);
  EXPECT_EQ(load(other, "one"), "absent");
}

TEST(PartStore, RemovesItselfWithoutPartsAndOnDemand) {
  const ScratchFolder scratch;
  const std::string folder = scratch / ".kept";
  {
    const PartStore store(folder, "a run");
  }
  EXPECT_FALSE(directory_exists(folder));
  PartStore store(folder, "a run");
  save(store, "one", "first");
  store.remove();
  EXPECT_FALSE(directory_exists(folder));
}

TEST(PartStore, DamagedPartsAreAbsent) {
  const ScratchFolder scratch;
  const std::string folder = scratch / ".kept";
  {
    PartStore store(folder, "a run");
    save(store, "one", "0123456789");
  }
  const std::string path = folder + "/one.part";
  const std::string bytes = read_file(path, 1000);
  for (size_t i = 0; i < bytes.size(); ++i) {
    std::string changed = bytes;
    changed[i] = static_cast<char>(changed[i] ^ 1);
    scratch.write(".kept/one.part", changed);
    EXPECT_EQ(load(PartStore(folder, "a run"), "one"), "absent") << i;
    scratch.write(".kept/one.part", bytes.substr(0, i));
    EXPECT_EQ(load(PartStore(folder, "a run"), "one"), "absent") << i;
  }
  scratch.write(".kept/one.part", bytes);
  EXPECT_EQ(load(PartStore(folder, "a run"), "one"), "0123456789");
  // As a run that was killed while it started over: the identity is missing.
  std::filesystem::remove(folder + "/identity");
  EXPECT_EQ(load(PartStore(folder, "a run"), "one"), "absent");
}

TEST(PartStore, OneRunAtATime) {
  const ScratchFolder scratch;
  const PartStore store(scratch / ".kept", "a run");
  expect_error(ErrorCode::kInvalidArgument, {".kept", "another run"},
               [&] { const PartStore second(scratch / ".kept", "a run"); });
  scratch.write("file", "");
  expect_error(ErrorCode::kIo, {"cannot lock"}, [&] { const PartStore second(scratch / "file", "a run"); });
  std::filesystem::create_directory_symlink(scratch.path(), scratch / "link");
  expect_error(ErrorCode::kIo, {"cannot lock"}, [&] { const PartStore second(scratch / "link", "a run"); });
  expect_error(ErrorCode::kIo, {"cannot create"}, [&] { const PartStore second(scratch / "none/kept", "a run"); });
}

TEST(PartStore, LeavesTheRoomThatIsAskedFor) {
  const ScratchFolder scratch;
  PartStore store(scratch / ".kept", "a run");
  const std::string text = "first";
  const std::array pieces = {std::as_bytes(std::span(text))};
  expect_error(ErrorCode::kIo, {"one.part", "MB left"}, [&] { store.save("one", pieces, 1e18); });
  EXPECT_EQ(store.n_parts(), 0);
  store.save("one", pieces, 1.0);
  EXPECT_EQ(load(store, "one"), "first");
}

TEST(ContentHash, TellsBytesLengthsAndOrderApart) {
  const std::string texts[] = {"",
                               "a",
                               "b",
                               std::string(1, '\0'),
                               std::string(8, '\0'),
                               "abcdefgh",
                               "hgfedcba",
                               "abcdefghi",
                               "abcdefgh"
                               "12345678",
                               "12345678"
                               "abcdefgh"};
  for (const std::string& a : texts) {
    for (const std::string& b : texts) {
      EXPECT_EQ(content_hash(std::as_bytes(std::span(a))) == content_hash(std::as_bytes(std::span(b))), a == b);
    }
  }
}

}  // namespace
}  // namespace mobilellm
