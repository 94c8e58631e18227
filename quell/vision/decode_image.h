// PNG and JPEG files to pixels.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>

#include "quell/vision/image.h"

namespace quell {

/// Decodes a PNG or JPEG file, by its first bytes; `source` names it in messages. Grey images have
/// one channel, all others three. Throws Error(kInvalidInput) on what is damaged, cut off, or
/// larger than `limits`, and Error(kUnsupported) on what is neither, or has no three colours of 8
/// bits: CMYK, transparent pixels, 16 bits a channel. May be called from several threads at once.
Image decode_image(std::span<const std::byte> bytes, const std::string& source,
                   const ImageLimits& limits = {});

/// Reads and decodes a file. Throws Error(kIo) too.
Image read_image(const std::filesystem::path& path, const ImageLimits& limits = {});

// The two formats on their own, as decode_image.
Image decode_png(std::span<const std::byte> bytes, const std::string& source,
                 const ImageLimits& limits = {});
Image decode_jpeg(std::span<const std::byte> bytes, const std::string& source,
                  const ImageLimits& limits = {});

}  // namespace quell
