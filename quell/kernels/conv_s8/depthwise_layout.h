// Where a depthwise weight lies. Channels are in blocks of the kernel's vector width in bytes, the
// last ones in blocks of half or a quarter of it, so that little work falls on channels that are
// not there. Within a block the order is that in which the processor's byte unpacking leaves
// channels: lanes of 16 bytes, each interleaved by itself.
#pragma once

#include <cstdint>

namespace quell::kernels {

inline constexpr std::int64_t kDepthwiseLane = 16;

/// Width of the block that begins at channel `first`.
constexpr std::int64_t depthwise_block(std::int64_t channels, std::int64_t first,
                                       std::int64_t vector_bytes) {
  const std::int64_t left =
      (channels - first + kDepthwiseLane - 1) / kDepthwiseLane * kDepthwiseLane;
  std::int64_t width = vector_bytes;
  while (width > left) width /= 2;
  return width;
}

/// Which of the block's int32 sums is that of channel `c` of the block: vector c % 16 / 4, and in
/// it lane c / 16, element c % 4.
constexpr std::int64_t depthwise_position(std::int64_t width, std::int64_t c) {
  const std::int64_t vector = c % kDepthwiseLane / 4, lane = c / kDepthwiseLane;
  return vector * (width / 4) + lane * 4 + c % 4;
}

}  // namespace quell::kernels
