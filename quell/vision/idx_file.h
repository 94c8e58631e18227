// IDX files, as MNIST and its relatives come: arrays of bytes with their sizes in front.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "quell/vision/image.h"

namespace quell {

/// An array of bytes, outermost size first.
struct IdxArray {
  std::vector<std::int64_t> sizes;
  std::vector<std::uint8_t> values;
};

/// Whether bytes begin like an IDX file of bytes, compressed with gzip or not. Throws as gunzip.
bool is_idx(std::span<const std::byte> bytes, const std::string& source);

/// Reads an IDX file of unsigned bytes, compressed with gzip or not. Throws Error(kInvalidInput)
/// where it is damaged, or shorter or longer than its sizes say, and Error(kUnsupported) where it
/// holds other numbers or more than 2^31 bytes; `source` names it in messages.
IdxArray parse_idx(std::span<const std::byte> bytes, const std::string& source);

/// Images [N, height, width] or [N, height, width, 1 or 3]: the one at `index`. Throws
/// Error(kInvalidInput) where `images` is no such array.
Image idx_image(const IdxArray& images, std::int64_t index, const std::string& source);

}  // namespace quell
