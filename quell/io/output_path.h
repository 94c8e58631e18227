// Where an output really goes, found out before any work.
#pragma once

#include <filesystem>
#include <optional>

namespace quell {

/// The file or folder that writing to `path` would create or replace: absolute, links followed (a
/// link to something missing leads to what it names), without "." and "..". Special files are
/// returned as they are. Throws Error(kUsage) for an empty path and Error(kIo) where the folder
/// that it would lie in is missing, or where links go in a circle.
std::filesystem::path resolve_output(const std::filesystem::path& path);

/// N where `path` is descriptor N of this process: /dev/stdout, /dev/fd/N, /proc/self/fd/N, or a
/// link to one of them.
std::optional<int> own_descriptor(const std::filesystem::path& path);

/// Whether something else is mounted on `path`, so that no rename can replace it.
bool is_mount_point(const std::filesystem::path& path);

/// Whether `inner` is `outer` or lies in it. Both resolved.
bool is_within(const std::filesystem::path& inner, const std::filesystem::path& outer);

}  // namespace quell
