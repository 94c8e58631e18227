// Pixels to PNG files, for pages that show them.
#pragma once

#include <cstddef>
#include <vector>

#include "quell/vision/image.h"

namespace quell {

/// The bytes of a PNG file that decode_png reads back as the same image: one channel (grey) or
/// three, at least one pixel. Throws Error(kInvalidInput) where libpng refuses.
std::vector<std::byte> encode_png(const Image& image);

}  // namespace quell
