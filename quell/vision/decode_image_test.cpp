#include "quell/vision/decode_image.h"

#include <gtest/gtest.h>

#include <random>

#include "quell/base/error.h"
#include "quell/io/mapped_file.h"

namespace quell {
namespace {

const std::filesystem::path kFiles =
    std::filesystem::path(QUELL_SOURCE_DIR) / "tests/golden/images/files";

std::vector<std::byte> file_bytes(const std::string& name) {
  const MappedFile file(kFiles / name);
  return {file.bytes().begin(), file.bytes().end()};
}

std::string refusal(std::span<const std::byte> bytes, const ImageLimits& limits = {}) {
  try {
    decode_image(bytes, "x", limits);
  } catch (const Error& e) {
    return e.what();
  }
  return "accepted";
}

const char* const kGood[] = {"rgb.png",     "grey.png",   "palette.png",    "interlaced.png",
                             "one_bit.png", "opaque.png", "444.jpg",        "420.jpg",
                             "422.jpg",     "grey.jpg",   "progressive.jpg"};

TEST(DecodeImage, SizesAndChannels) {
  for (const std::string name : kGood) {
    const Image image = decode_image(file_bytes(name), name);
    EXPECT_EQ(image.height, 13) << name;
    EXPECT_EQ(image.width, 19) << name;
    const bool grey = name.starts_with("grey") || name == "one_bit.png";
    EXPECT_EQ(image.channels, grey ? 1 : 3) << name;
    EXPECT_EQ(image.pixels.size(), static_cast<std::size_t>(13 * 19 * image.channels)) << name;
  }
}

TEST(DecodeImage, EveryCutIsRefused) {
  for (const std::string name : kGood) {
    const std::vector<std::byte> bytes = file_bytes(name);
    for (std::size_t size = 0; size < bytes.size(); ++size) {
      const std::string message = refusal(std::span(bytes).first(size));
      EXPECT_NE(message, "accepted") << name << " cut to " << size << " of " << bytes.size();
      EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    }
  }
}

TEST(DecodeImage, DamageIsRefusedOrHarmlessAndNeverWorse) {
  std::mt19937 random(1);
  int refused = 0;
  for (const std::string name : kGood)
    for (int round = 0; round < 200; ++round) {
      std::vector<std::byte> bytes = file_bytes(name);
      for (int i = 0; i < 3; ++i)
        bytes[random() % bytes.size()] = static_cast<std::byte>(random() & 0xff);
      if (refusal(bytes, {1 << 16}) != "accepted") ++refused;
    }
  EXPECT_GT(refused, 1000);
}

TEST(DecodeImage, DamagedPngChunksAreTold) {
  std::vector<std::byte> bytes = file_bytes("rgb.png");
  bytes[bytes.size() - 13] ^= std::byte{1};  // of the checksum in front of the last chunk
  EXPECT_EQ(refusal(bytes), "x: damaged PNG image: IDAT: CRC error");
  bytes.resize(bytes.size() / 3);
  EXPECT_EQ(refusal(bytes), "x: damaged PNG image: the file ends too early");
}

TEST(DecodeImage, JpegsThatEndTooEarlyAreTold) {
  std::vector<std::byte> bytes = file_bytes("420.jpg");
  bytes.resize(bytes.size() - 20);
  EXPECT_EQ(refusal(bytes), "x: damaged JPEG image: Premature end of JPEG file");
}

TEST(DecodeImage, WhatHasNoThreeColoursOfAByteIsRefused) {
  EXPECT_EQ(refusal(file_bytes("cmyk.jpg")),
            "x: a JPEG image of 4 components that are neither grey nor RGB (CMYK?); convert it to "
            "RGB");
  EXPECT_EQ(refusal(file_bytes("transparent.png")),
            "x: a PNG image with transparent pixels; blend them with a background first");
  EXPECT_EQ(refusal(file_bytes("sixteen_bits.png")),
            "x: a PNG image of 16 bits a channel; convert it to 8");
  EXPECT_EQ(refusal({}), "x: the image is empty");
  const std::array<std::byte, 4> gif = {std::byte{'G'}, std::byte{'I'}, std::byte{'F'},
                                        std::byte{'8'}};
  EXPECT_EQ(refusal(gif), "x: neither a PNG nor a JPEG image");
}

TEST(DecodeImage, TooLargeIsSaidBeforeMemoryIsAskedFor) {
  const ImageLimits limits = {13 * 19 - 1};
  EXPECT_EQ(refusal(file_bytes("rgb.png"), limits),
            "x: 19 x 13 pixels, more than the 246 that are read");
  EXPECT_EQ(refusal(file_bytes("420.jpg"), limits),
            "x: 19 x 13 pixels, more than the 246 that are read");
}

}  // namespace
}  // namespace quell
