#pragma once

#include <cstdint>

namespace quell {

/// Of an image whose pixels are rows: row by row, channels last.
struct ImageSize {
  std::int64_t height = 0;
  std::int64_t width = 0;
  std::int64_t pixels() const { return height * width; }
  bool operator==(const ImageSize&) const = default;
};

}  // namespace quell
