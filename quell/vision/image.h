// A decoded image, and what is too large to be one.
#pragma once

#include <cassert>
#include <cstdint>
#include <vector>

namespace quell {

/// Rows from the top, pixels from the left, channels interleaved: 1 (grey) or 3 (red, green, blue).
struct Image {
  std::int64_t height = 0;
  std::int64_t width = 0;
  std::int64_t channels = 0;
  std::vector<std::uint8_t> pixels;  ///< height * width * channels

  Image() = default;
  /// All zero.
  Image(std::int64_t h, std::int64_t w, std::int64_t c)
      : height(h), width(w), channels(c), pixels(static_cast<std::size_t>(h * w * c)) {}

  std::uint8_t* row(std::int64_t y) { return pixels.data() + y * width * channels; }
  const std::uint8_t* row(std::int64_t y) const { return pixels.data() + y * width * channels; }
  bool operator==(const Image&) const = default;
};

/// What decoders refuse before they ask for memory.
struct ImageLimits {
  std::int64_t max_pixels = std::int64_t{1} << 26;
};

}  // namespace quell
