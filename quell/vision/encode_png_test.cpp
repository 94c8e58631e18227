#include "quell/vision/encode_png.h"

#include <gtest/gtest.h>

#include <random>

#include "quell/base/error.h"
#include "quell/vision/decode_image.h"

namespace quell {
namespace {

Image random_pixels(std::int64_t height, std::int64_t width, std::int64_t channels) {
  Image image(height, width, channels);
  std::mt19937 random(static_cast<unsigned>(height * 1000 + width));
  for (std::uint8_t& v : image.pixels) v = static_cast<std::uint8_t>(random() & 0xff);
  return image;
}

TEST(EncodePng, IsReadBackAsItWas) {
  for (const std::int64_t channels : {1, 3})
    for (const auto& [height, width] : {std::pair(1, 1), {1, 70}, {13, 19}, {96, 64}}) {
      const Image image = random_pixels(height, width, channels);
      const Image again = decode_image(encode_png(image), "encoded");
      EXPECT_EQ(again, image) << height << " x " << width << " x " << channels;
    }
}

TEST(EncodePng, PlainImagesTakeFewBytes) {
  EXPECT_LT(encode_png(Image(96, 96, 3)).size(), 1000U) << "of 27648 zeros";
}

TEST(EncodePng, WhatIsNoImageIsRefused) {
  EXPECT_THROW(encode_png(Image(4, 4, 2)), Error);
  EXPECT_THROW(encode_png(Image(0, 4, 3)), Error);
}

}  // namespace
}  // namespace quell
