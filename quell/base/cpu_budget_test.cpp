#include "quell/base/cpu_budget.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <fstream>

#include "quell/base/error.h"
#include "quell/base/thread_pool.h"

namespace quell {
namespace {

namespace fs = std::filesystem;

/// A made-up root with /proc/self and control groups.
class CpuQuotaTest : public testing::Test {
 protected:
  CpuQuotaTest() : root_(fs::temp_directory_path() / str("quell-cpu-quota-test-", ::getpid())) {
    fs::create_directories(root_);
  }
  ~CpuQuotaTest() override { fs::remove_all(root_); }

  void write(const std::string& path, const std::string& text) {
    const fs::path file = root_ / path;
    fs::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }
  void set_process(const std::string& cgroup, const std::string& mountinfo) {
    write("proc/self/cgroup", cgroup);
    write("proc/self/mountinfo",
          "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n" + mountinfo);
  }
  void expect_quota(double cpus, const std::string& file) {
    const std::optional<CpuQuota> quota = read_cpu_quota(root_);
    ASSERT_TRUE(quota);
    EXPECT_DOUBLE_EQ(quota->cpus, cpus);
    EXPECT_EQ(quota->file, root_ / file);
  }

  const std::string v2_mount_ =
      "31 22 0:28 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
  const std::string v1_mount_ =
      "33 22 0:30 / /sys/fs/cgroup/cpu,cpuacct rw shared:11 master:2 - cgroup cgroup "
      "rw,cpu,cpuacct\n";
  const fs::path root_;
};

TEST_F(CpuQuotaTest, SmallestOfAllAncestorsInVersion2) {
  set_process("0::/user.slice/job.scope\n", v2_mount_);
  write("sys/fs/cgroup/user.slice/job.scope/cpu.max", "400000 100000\n");
  expect_quota(4, "sys/fs/cgroup/user.slice/job.scope/cpu.max");
  write("sys/fs/cgroup/user.slice/cpu.max", "75000 50000\n");
  expect_quota(1.5, "sys/fs/cgroup/user.slice/cpu.max");
  write("sys/fs/cgroup/user.slice/job.scope/cpu.max", "max 100000\n");
  expect_quota(1.5, "sys/fs/cgroup/user.slice/cpu.max");
}

TEST_F(CpuQuotaTest, SmallestOfAllAncestorsInVersion1) {
  set_process("5:cpuset:/other\n4:cpu,cpuacct:/docker/abc\n0::/\n",
              "32 22 0:29 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n" + v1_mount_);
  write("sys/fs/cgroup/cpuset/other/cpu.cfs_quota_us",
        "1\n");  // of another controller: no business of ours
  write("sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us", "-1\n");
  write("sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_period_us", "100000\n");
  EXPECT_FALSE(read_cpu_quota(root_));
  write("sys/fs/cgroup/cpu,cpuacct/docker/cpu.cfs_quota_us", "50000\n");
  write("sys/fs/cgroup/cpu,cpuacct/docker/cpu.cfs_period_us", "20000\n");
  expect_quota(2.5, "sys/fs/cgroup/cpu,cpuacct/docker/cpu.cfs_quota_us");
  write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us",
        "100000\n");  // the period left out is the kernel's
  expect_quota(1, "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us");
}

TEST_F(CpuQuotaTest, BothVersionsTogether) {
  set_process("4:cpu,cpuacct:/a\n0::/b\n",
              v1_mount_ + "42 22 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
  write("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "300000\n");
  write("sys/fs/cgroup/unified/b/cpu.max", "200000 100000\n");
  expect_quota(2, "sys/fs/cgroup/unified/b/cpu.max");
}

TEST_F(CpuQuotaTest, MountOfAContainerShowsOnlyItsPart) {
  // The host's path in /proc/self/cgroup, the container's own group at the mount point, as without
  // a namespace of control groups.
  set_process(
      "4:cpu,cpuacct:/docker/abc/inner\n",
      "33 22 0:30 /docker/abc /sys/fs/cgroup/cpu\\040time rw - cgroup cgroup rw,cpuacct,cpu\n");
  write("sys/fs/cgroup/cpu time/cpu.cfs_quota_us", "120000\n");
  write("sys/fs/cgroup/cpu time/inner/cpu.cfs_quota_us", "110000\n");
  expect_quota(1.1, "sys/fs/cgroup/cpu time/inner/cpu.cfs_quota_us");
}

TEST_F(CpuQuotaTest, GroupOutsideTheMountTakesTheMountPoint) {
  for (const char* group : {"/../../elsewhere", "/elsewhere", "/docker/abc2", "/docker/abc"}) {
    set_process(str("0::", group, "\n"),
                "31 22 0:28 /docker/abc /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
    write("sys/fs/cgroup/cpu.max", "250000 100000\n");
    write("sys/fs/elsewhere/cpu.max", "1 100000\n");
    expect_quota(2.5, "sys/fs/cgroup/cpu.max");
  }
}

TEST_F(CpuQuotaTest, WhatIsMissingOrMakesNoSenseLimitsNothing) {
  EXPECT_FALSE(read_cpu_quota(root_)) << "no /proc";
  set_process("0::/gone (deleted)\n", v2_mount_);
  EXPECT_FALSE(read_cpu_quota(root_)) << "no files";
  for (const char* text : {"", "max\n", "max 100000\n", "abc\n", "-5 100000\n", "0 100000\n",
                           "100000 0\n", "100000 -1\n"}) {
    write("sys/fs/cgroup/cpu.max", text);
    EXPECT_FALSE(read_cpu_quota(root_)) << text;
  }
  write("sys/fs/cgroup/cpu.max", "150000");
  expect_quota(1.5, "sys/fs/cgroup/cpu.max");
  set_process("nonsense\n:\n0:\n", "31 22\n - cgroup2\n" + v2_mount_);
  EXPECT_FALSE(read_cpu_quota(root_)) << "no line for this process";
}

TEST(CpuBudget, SmallerOfAffinityAndQuotaRoundedUp) {
  const auto threads = [](int affinity, double cpus) {
    return CpuBudget{affinity, CpuQuota{cpus, "f"}}.threads();
  };
  EXPECT_EQ((CpuBudget{4, std::nullopt}.threads()), 4);
  EXPECT_EQ(threads(4, 0.01), 1);
  EXPECT_EQ(threads(4, 1), 1);
  EXPECT_EQ(threads(4, 1.01), 2);
  EXPECT_EQ(threads(4, 3.5), 4);
  EXPECT_EQ(threads(4, 1e300), 4);
}

TEST(CpuBudget, ReasonNamesWhatDecides) {
  const CpuBudget free{2, std::nullopt}, limited{8, CpuQuota{1.5, "/sys/fs/cgroup/cpu.max"}},
      wide{1, CpuQuota{4, "f"}};
  EXPECT_EQ(thread_count_reason(false, free),
            "by affinity; affinity allows 2 processors, no cgroup quota");
  EXPECT_EQ(
      thread_count_reason(false, limited),
      "by quota; affinity allows 8 processors, cgroup quota of 1.5 in /sys/fs/cgroup/cpu.max");
  EXPECT_EQ(thread_count_reason(false, wide),
            "by affinity; affinity allows 1 processor, cgroup quota of 4 in f");
  EXPECT_EQ(thread_count_reason(true, free),
            "as asked; affinity allows 2 processors, no cgroup quota");
}

TEST(CpuBudget, FollowsTheAffinityOfThisThread) {
  cpu_set_t before;
  CPU_ZERO(&before);
  ASSERT_EQ(sched_getaffinity(0, sizeof(before), &before), 0);
  EXPECT_EQ(affinity_cpus(), CPU_COUNT(&before));
  cpu_set_t one;
  CPU_ZERO(&one);
  int first = 0;
  while (!CPU_ISSET(first, &before)) ++first;
  CPU_SET(first, &one);
  ASSERT_EQ(sched_setaffinity(0, sizeof(one), &one), 0);
  const int allowed = affinity_cpus(), threads = ThreadPool().num_threads();
  sched_setaffinity(0, sizeof(before), &before);
  EXPECT_EQ(allowed, 1);
  EXPECT_EQ(threads, 1);
}

}  // namespace
}  // namespace quell
