// Files in memory.
#include "base/mapped_file.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace mobilellm {
namespace {

TEST(MappedFile, InMemoryKeepsItsBytesWhenReleased) {
  static constexpr size_t kBytes = 3 << 20;
  const auto file = MappedFile::create_in_memory(kBytes, [](std::span<std::byte> bytes) {
    EXPECT_EQ(bytes.size(), kBytes);
    EXPECT_TRUE(std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; }));
    for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i / 7);
  });
  file->release(file->bytes());
  ASSERT_EQ(file->bytes().size(), kBytes);
  for (size_t i = 0; i < kBytes; ++i) ASSERT_EQ(file->bytes()[i], static_cast<std::byte>(i / 7)) << i;
  EXPECT_NO_THROW(file->check_unchanged());
  EXPECT_TRUE(MappedFile::create_in_memory(0, [](std::span<std::byte>) {})->bytes().empty());
}

}  // namespace
}  // namespace mobilellm
