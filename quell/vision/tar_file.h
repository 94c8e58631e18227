// Tar archives: which files lie in one, and where.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

namespace quell {

/// A regular file of an archive.
struct TarMember {
  std::string name;  ///< '/' between folders, without "./" in front
  std::span<const std::byte> bytes;
};

/// Whether bytes begin like a tar archive: with a header whose checksum is right.
bool is_tar(std::span<const std::byte> bytes);

/// All regular files, in order. Reads ustar archives, with long names and sizes as GNU tar and pax
/// write them; folders are passed over. The members point into `bytes`. Throws Error(kInvalidInput)
/// where a header is damaged, the archive is cut off or a name comes twice, and Error(kUnsupported)
/// at links, devices and sparse files; `source` names the archive in messages.
std::vector<TarMember> list_tar(std::span<const std::byte> bytes, const std::string& source);

}  // namespace quell
