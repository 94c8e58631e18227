#include "quell/vision/decode_image.h"

#include <algorithm>
#include <array>

#include "quell/base/error.h"
#include "quell/io/mapped_file.h"

namespace quell {
namespace {

bool begins_with(std::span<const std::byte> bytes, std::span<const std::uint8_t> magic) {
  if (bytes.size() < magic.size()) return false;
  const auto same = [](std::uint8_t a, std::byte b) { return static_cast<std::byte>(a) == b; };
  return std::equal(magic.begin(), magic.end(), bytes.begin(), same);
}

}  // namespace

Image decode_image(std::span<const std::byte> bytes, const std::string& source,
                   const ImageLimits& limits) {
  static constexpr std::array<std::uint8_t, 8> kPng = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
  static constexpr std::array<std::uint8_t, 3> kJpeg = {0xff, 0xd8, 0xff};

  require(!bytes.empty(), ErrorCode::kInvalidInput, source, ": the image is empty");
  if (begins_with(bytes, kPng)) return decode_png(bytes, source, limits);
  if (begins_with(bytes, kJpeg)) return decode_jpeg(bytes, source, limits);
  throw Error(ErrorCode::kUnsupported, source + ": neither a PNG nor a JPEG image");
}

Image read_image(const std::filesystem::path& path, const ImageLimits& limits) {
  const MappedFile file(path);
  return decode_image(file.bytes(), path.string(), limits);
}

}  // namespace quell
