// Files compressed with gzip, in memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace quell {

/// Whether bytes begin as gzip writes them.
bool is_gzip(std::span<const std::byte> bytes);

/// The first `count` bytes of what was compressed, fewer where there are no more; that there are no
/// more was checked, as was the checksum, where the result is shorter than `count`. Throws
/// Error(kInvalidInput) on what is damaged or cut off; `source` names the file in messages.
std::vector<std::uint8_t> gunzip(std::span<const std::byte> bytes, std::size_t count,
                                 const std::string& source);

}  // namespace quell
