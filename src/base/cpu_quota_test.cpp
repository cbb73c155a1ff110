// Quotas of control groups in a made-up tree of control files.
#include "base/cpu_quota.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "tests/support/scratch_folder.h"

namespace mobilellm {
namespace {

class CpuQuota : public ::testing::Test {
 protected:
  void put(const std::string& path, const std::string& text) const {
    std::filesystem::create_directories(std::filesystem::path(folder_ / path).parent_path());
    folder_.write(path, text);
  }
  int cores(const std::string& membership) const { return cpu_quota_cores(membership, folder_.path()); }

 private:
  ScratchFolder folder_;
};

TEST_F(CpuQuota, TheSmallestOfAGroupAndThoseAboveCounts) {
  put("a/cpu.max", "200000 100000\n");
  put("a/b/cpu.max", "max 100000\n");
  EXPECT_EQ(cores("0::/a/b\n"), 2);
  put("a/b/cpu.max", "50000 100000\n");
  EXPECT_EQ(cores("0::/a/b\n"), 1);
  EXPECT_EQ(cores("0::/a\n"), 2);
  EXPECT_EQ(cores("0::/\n"), 0);
}

TEST_F(CpuQuota, ARootThatIsTheContainersOwnHasTheQuota) {
  put("cpu.max", "250000 100000\n");
  EXPECT_EQ(cores("0::/\n"), 3);
  EXPECT_EQ(cores("0::/unseen/from/here\n"), 3);
}

TEST_F(CpuQuota, VersionOneHasAFolderPerController) {
  put("cpu/slice/cpu.cfs_quota_us", "100000\n");
  put("cpu/slice/cpu.cfs_period_us", "100000\n");
  put("cpu/cpu.cfs_quota_us", "-1\n");
  put("cpu/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(cores("4:memory:/x\n3:cpu,cpuacct:/slice\n2:cpuset:/y\n"), 1);
  EXPECT_EQ(cores("3:cpu:/\n"), 0);
  EXPECT_EQ(cores("3:cpuset:/slice\n"), 0);
}

TEST_F(CpuQuota, NonsenseMeansNoLimit) {
  put("cpu.max", "some 100000\n");
  EXPECT_EQ(cores("0::/\n"), 0);
  EXPECT_EQ(cores(""), 0);
  EXPECT_EQ(cores("no colons\n0:\n::\n"), 0);
  put("cpu.max", "9223372036854775807 1\n");
  EXPECT_EQ(cores("0::/\n"), 1 << 20);
}

}  // namespace
}  // namespace mobilellm
