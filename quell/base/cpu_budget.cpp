#include "quell/base/cpu_budget.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>
#include <sstream>
#include <thread>
#include <vector>

#include "quell/base/error.h"

namespace quell {
namespace {

namespace fs = std::filesystem;

constexpr double kDefaultPeriod = 100000;  // microseconds, where cpu.max names none

/// The part of a hierarchy of control groups that can be seen below one mount point.
struct Mount {
  std::string root;   ///< control group that lies at the mount point
  std::string point;  ///< absolute
  bool unified = false;
};

bool holds_word(const std::string& list, const std::string& word) {
  std::istringstream in(list);
  for (std::string w; std::getline(in, w, ',');)
    if (w == word) return true;
  return false;
}

/// mountinfo writes spaces, tabs, line breaks and backslashes as a backslash and three octal
/// digits.
std::string unescape(const std::string& text) {
  const auto is_octal = [&](std::size_t i) {
    return i < text.size() && text[i] >= '0' && text[i] <= '7';
  };
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && is_octal(i + 1) && is_octal(i + 2) && is_octal(i + 3)) {
      out += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 +
                               (text[i + 3] - '0'));
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

/// Mounts of version 2, and of version 1 with the controller `cpu`.
/// A line: id, parent, device, root, mount point, options, any number of optional fields, "-",
/// type, source, super options.
std::vector<Mount> read_mounts(const fs::path& file) {
  std::ifstream in(file);
  std::vector<Mount> mounts;
  for (std::string line; std::getline(in, line);) {
    std::istringstream words(line);
    const std::vector<std::string> fields{std::istream_iterator<std::string>(words), {}};
    const auto dash = std::find(fields.begin(), fields.end(), "-");
    if (dash - fields.begin() < 6 || fields.end() - dash < 4) continue;
    const bool unified = dash[1] == "cgroup2";
    if (unified || (dash[1] == "cgroup" && holds_word(dash[3], "cpu")))
      mounts.push_back({unescape(fields[3]), unescape(fields[4]), unified});
  }
  return mounts;
}

/// Control group of this process in version 2, or in version 1 for the controller `cpu`. A line:
/// number, controllers, path.
std::optional<std::string> read_group(const fs::path& file, bool unified) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    const std::size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const bool wanted = unified ? line.substr(0, first) == "0" && controllers.empty()
                                : holds_word(controllers, "cpu");
    if (wanted) return line.substr(second + 1);
  }
  return std::nullopt;
}

/// Folder of `group` relative to the mount point. A group that lies elsewhere, as those of a host
/// do for a container, is not visible: what is at the mount point is all there is then.
fs::path below_mount(const std::string& group, const std::string& root) {
  const fs::path relative = fs::path(group).lexically_relative(root);
  const bool outside = relative.empty() || relative == "." || *relative.begin() == "..";
  return outside ? fs::path() : relative;
}

std::optional<std::string> first_line(const fs::path& file) {
  std::ifstream in(file);
  std::string line;
  if (!std::getline(in, line)) return std::nullopt;
  return line;
}

/// What the files of one control group grant.
std::optional<CpuQuota> quota_of(const fs::path& folder, bool unified) {
  const fs::path file = folder / (unified ? "cpu.max" : "cpu.cfs_quota_us");
  const std::optional<std::string> limit = first_line(file);
  if (!limit) return std::nullopt;
  double quota = 0, period = kDefaultPeriod;
  std::istringstream in(*limit);
  if (!(in >> quota)) return std::nullopt;  // "max"
  if (unified) {
    double named = 0;
    if (in >> named) period = named;
  } else if (const auto named = first_line(folder / "cpu.cfs_period_us")) {
    std::istringstream(*named) >> period;
  }
  if (!(quota > 0 && period > 0)) return std::nullopt;  // -1 says no limit in version 1
  return CpuQuota{quota / period, file};
}

}  // namespace

std::optional<CpuQuota> read_cpu_quota(const fs::path& root) {
  const fs::path proc = root / "proc" / "self";
  std::optional<CpuQuota> smallest;
  for (const Mount& mount : read_mounts(proc / "mountinfo")) {
    const std::optional<std::string> group = read_group(proc / "cgroup", mount.unified);
    if (!group) continue;
    const fs::path top = root / fs::path(mount.point).relative_path();

    // Every group that holds this one limits it too.
    for (fs::path relative = below_mount(*group, mount.root);; relative = relative.parent_path()) {
      const std::optional<CpuQuota> quota =
          quota_of(relative.empty() ? top : top / relative, mount.unified);
      if (quota && (!smallest || quota->cpus < smallest->cpus)) smallest = quota;
      if (relative.empty()) break;
    }
  }
  return smallest;
}

int affinity_cpus() {
  // Machines may have more processors than a cpu_set_t holds.
  constexpr int kMostCpus = 1 << 20;
  for (int cpus = CPU_SETSIZE; cpus <= kMostCpus; cpus *= 2) {
    std::vector<cpu_set_t> sets(static_cast<std::size_t>(cpus / CPU_SETSIZE));
    const std::size_t bytes = sets.size() * sizeof(cpu_set_t);
    if (sched_getaffinity(0, bytes, sets.data()) == 0)
      return std::max(1, CPU_COUNT_S(bytes, sets.data()));
  }
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

int CpuBudget::threads() const {
  if (!quota || quota->cpus >= affinity) return affinity;
  return std::max(1, static_cast<int>(std::ceil(quota->cpus)));
}

CpuBudget cpu_budget() { return {affinity_cpus(), read_cpu_quota()}; }

std::string thread_count_reason(bool asked, const CpuBudget& budget) {
  const std::string affinity =
      str("affinity allows ", budget.affinity, budget.affinity == 1 ? " processor" : " processors");
  std::string quota = "no cgroup quota";
  if (budget.quota)
    quota = str("cgroup quota of ", budget.quota->cpus, " in ", budget.quota->file.string());

  const std::string facts = affinity + ", " + quota;
  if (asked) return "as asked; " + facts;
  return (budget.limited_by_quota() ? "by quota; " : "by affinity; ") + facts;
}

}  // namespace quell
