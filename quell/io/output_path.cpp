#include "quell/io/output_path.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>

#include "quell/base/error.h"

namespace quell {
namespace fs = std::filesystem;
namespace {

constexpr int kMaxLinks = 40;

/// "out/" and "out/." as "out".
fs::path without_ending(fs::path path) {
  while (path.has_parent_path() && path != path.parent_path() &&
         (!path.has_filename() || path.filename() == "."))
    path = path.parent_path();
  return path;
}

fs::path folder_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

/// What the link `path` names, seen from where the link lies.
fs::path target_of_link(const fs::path& path) {
  std::error_code ec;
  const fs::path target = fs::read_symlink(path, ec);
  return target.is_absolute() ? target : folder_of(path) / target;
}

}  // namespace

fs::path resolve_output(const fs::path& path) {
  require(!path.empty(), ErrorCode::kUsage,
          "the path of an output is empty; name a file or folder");
  std::error_code ec;
  fs::path at = path;
  for (int links = 0; links < kMaxLinks; ++links) {
    const fs::file_status status = fs::status(at, ec);
    if (fs::is_regular_file(status) || fs::is_directory(status)) return fs::canonical(at);
    if (fs::exists(status)) return fs::absolute(at);

    at = without_ending(at);
    if (!fs::is_symlink(at, ec)) {
      const fs::path folder = folder_of(at);
      require(fs::is_directory(folder, ec), ErrorCode::kIo, path.string(), ": there is no folder ",
              folder.string(), "; create it first");
      return fs::canonical(folder) / at.filename();
    }
    at = target_of_link(at);
  }
  throw Error(ErrorCode::kIo, path.string() + ": links go in a circle");
}

std::optional<int> own_descriptor(const fs::path& path) {
  std::error_code ec;
  const std::string own = fs::path("/proc") / std::to_string(::getpid()) / "fd";
  fs::path at = path;
  for (int links = 0; links < kMaxLinks && fs::is_symlink(at, ec); ++links) {
    if (fs::canonical(folder_of(at), ec) == own) {
      const std::string name = at.filename().string();
      int number = -1;
      const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
      return error == std::errc() && end == name.data() + name.size() ? std::optional(number)
                                                                      : std::nullopt;
    }
    at = target_of_link(at);
  }
  return std::nullopt;
}

bool is_mount_point(const fs::path& path) {
  struct statx info {};
  if (::statx(AT_FDCWD, path.c_str(), 0, STATX_BASIC_STATS, &info) != 0) return false;
  if (info.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT)
    return (info.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
  struct stat own {
  }, folder{};  // an old kernel: a mount on the same device is not seen
  return ::stat(path.c_str(), &own) == 0 && ::stat((path / "..").c_str(), &folder) == 0 &&
         own.st_dev != folder.st_dev;
}

bool is_within(const fs::path& inner, const fs::path& outer) {
  const auto [at, rest] = std::mismatch(outer.begin(), outer.end(), inner.begin(), inner.end());
  return at == outer.end();
}

}  // namespace quell
