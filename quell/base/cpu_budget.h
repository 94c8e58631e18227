// How many threads this process may keep busy: the processors it may run on, and the share of their
// time it is granted.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

namespace quell {

/// A limit of control groups on processor time.
struct CpuQuota {
  double cpus = 0;             ///< processors' worth of time; 0.5 is half of one
  std::filesystem::path file;  ///< that sets it
};

/// The smallest quota of this process's control groups and all that hold them, versions 1 and 2;
/// nothing where there is none. Reads `root`/proc/self/{cgroup,mountinfo} and the files below the
/// mount points named there, taken relative to `root`. What is missing or makes no sense limits
/// nothing.
std::optional<CpuQuota> read_cpu_quota(const std::filesystem::path& root = "/");

/// Processors that the calling thread may run on, at least 1.
int affinity_cpus();

struct CpuBudget {
  int affinity = 1;
  std::optional<CpuQuota> quota;

  /// The smaller of both, quotas rounded up; at least 1.
  int threads() const;
  bool limited_by_quota() const { return threads() < affinity; }
};

CpuBudget cpu_budget();

/// For people: why this many threads, `asked` where somebody named the number.
std::string thread_count_reason(bool asked, const CpuBudget& budget);

}  // namespace quell
