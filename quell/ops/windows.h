// Windows that slide over images: how many there are, and which pixel each tap of each sees.
#pragma once

#include <cstdint>
#include <vector>

#include "quell/tensor/image_size.h"

namespace quell {

/// Pixels around an image.
struct ImagePadding {
  std::int64_t top = 0;
  std::int64_t bottom = 0;
  std::int64_t left = 0;
  std::int64_t right = 0;
  bool operator==(const ImagePadding&) const = default;
};

/// A window of kernel_height x kernel_width taps.
struct Window {
  std::int64_t kernel_height = 1;
  std::int64_t kernel_width = 1;
  std::int64_t stride_height = 1;
  std::int64_t stride_width = 1;
  std::int64_t dilation_height = 1;
  std::int64_t dilation_width = 1;
  ImagePadding padding = {};

  std::int64_t taps() const { return kernel_height * kernel_width; }
  bool operator==(const Window&) const = default;
};

/// How many windows fit; 0 or less where none does. `ceil`: one more where the last window sticks
/// out, as long as it begins inside the image or its padding in front.
ImageSize windows_over(ImageSize image, const Window& window, bool ceil = false);
/// Size of an image over which that many windows would fit: what a transposed convolution makes.
/// `more`: rows and columns behind the last window, which a stride leaves open.
ImageSize image_under(ImageSize windows, const Window& window, ImageSize more = {});

/// Which row and column of the image each tap sees, -1 where that is padding.
struct TapTable {
  ImageSize image;  ///< that is read
  ImageSize out;    ///< whose pixels have a window each
  std::int64_t kernel_height = 1;
  std::int64_t kernel_width = 1;
  std::vector<std::int64_t> rows;     ///< [out.height, kernel_height]
  std::vector<std::int64_t> columns;  ///< [out.width, kernel_width]

  /// Whether there is one tap, which sees the pixel in the place of the output.
  bool reads_in_place() const;
  /// The pixel, counted within its image; -1: padding.
  std::int64_t pixel(std::int64_t y, std::int64_t x, std::int64_t tap_y, std::int64_t tap_x) const {
    const std::int64_t row = rows[static_cast<std::size_t>(y * kernel_height + tap_y)];
    const std::int64_t column = columns[static_cast<std::size_t>(x * kernel_width + tap_x)];
    return row < 0 || column < 0 ? -1 : row * image.width + column;
  }
};
TapTable make_taps(ImageSize image, const Window& window, ImageSize out);
/// Of a transposed convolution: tap t of pixel p sees what lies at (p + padding - t) / stride.
TapTable make_transposed_taps(ImageSize image, const Window& window, ImageSize out);

/// Of a convolution between images of fixed sizes.
struct ConvGeometry {
  TapTable taps;
  Window window = {};  ///< that the table was made of
  bool transposed = false;
  std::int64_t groups = 1;
  std::vector<float> padding = {};  ///< what taps outside of the image see, [I]; empty: 0

  /// Rows of the output for so many of the operand: pixels of the same images.
  std::int64_t out_rows(std::int64_t rows) const {
    return rows / taps.image.pixels() * taps.out.pixels();
  }
};

}  // namespace quell
