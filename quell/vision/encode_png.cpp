#include "quell/vision/encode_png.h"

#include <cstring>

#include <png.h>

#include "quell/base/error.h"

namespace quell {

std::vector<std::byte> encode_png(const Image& image) {
  require(image.channels == 1 || image.channels == 3, ErrorCode::kInvalidInput, "a PNG image of ",
          image.channels, " channels: 1 or 3 are written");

  // The simplified interface returns its errors; the other one jumps (decode_png.cpp).
  png_image header;
  std::memset(&header, 0, sizeof header);
  header.version = PNG_IMAGE_VERSION;
  header.width = static_cast<png_uint_32>(image.width);
  header.height = static_cast<png_uint_32>(image.height);
  header.format = image.channels == 1 ? PNG_FORMAT_GRAY : PNG_FORMAT_RGB;

  png_alloc_size_t size = PNG_IMAGE_PNG_SIZE_MAX(header);
  std::vector<std::byte> bytes(size);
  const int written =
      png_image_write_to_memory(&header, bytes.data(), &size, 0, image.pixels.data(), 0, nullptr);
  require(written != 0, ErrorCode::kInvalidInput, "a PNG image of ", image.width, " x ",
          image.height, " pixels: ", header.message);

  bytes.resize(size);
  return bytes;
}

}  // namespace quell
