// What holds whatever the numbers; tests/images_test.cpp compares with the libraries themselves.
#include "quell/vision/resize.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace quell {
namespace {

std::vector<ResizeMethod> all_methods() {
  std::vector<ResizeMethod> methods;
  for (int library = 0; library < 3; ++library)
    for (int filter = 0; filter < 7; ++filter) {
      const ResizeMethod method = {static_cast<ResizeLibrary>(library),
                                   static_cast<ResizeFilter>(filter)};
      if (can_resize(method)) methods.push_back(method);
    }
  return methods;
}

std::string method_name(const ResizeMethod& method) {
  return std::string(library_name(method.library)) + " " + std::string(filter_name(method.filter));
}

Image noise(std::int64_t height, std::int64_t width, std::int64_t channels) {
  std::mt19937 random(7);
  Image image(height, width, channels);
  for (std::uint8_t& value : image.pixels) value = static_cast<std::uint8_t>(random() & 0xff);
  return image;
}

constexpr std::int64_t kSizes[][2] = {{1, 1}, {1, 9}, {9, 1}, {7, 13}, {14, 26}, {3, 40}, {40, 3}};

TEST(Resize, TwelveMethods) { EXPECT_EQ(all_methods().size(), 12U); }

TEST(Resize, OneColourStaysThatColour) {
  for (const ResizeMethod& method : all_methods())
    for (const auto& [height, width] : kSizes)
      for (const int value : {0, 1, 128, 254, 255}) {
        Image image(14, 26, 3);
        std::fill(image.pixels.begin(), image.pixels.end(), static_cast<std::uint8_t>(value));
        const Image out = resize(image, height, width, method);
        EXPECT_EQ(out.height, height);
        EXPECT_EQ(out.width, width);
        const bool same = std::all_of(out.pixels.begin(), out.pixels.end(),
                                      [&](std::uint8_t v) { return v == value; });
        EXPECT_TRUE(same) << method_name(method) << " to " << width << " x " << height;
      }
}

TEST(Resize, ChannelsDoNotMix) {
  const Image grey = noise(11, 17, 1);
  Image colours(11, 17, 3);
  for (std::size_t i = 0; i < grey.pixels.size(); ++i) colours.pixels[3 * i + 1] = grey.pixels[i];

  for (const ResizeMethod& method : all_methods())
    for (const auto& [height, width] : kSizes) {
      const Image one = resize(grey, height, width, method);
      const Image three = resize(colours, height, width, method);
      for (std::size_t i = 0; i < one.pixels.size(); ++i) {
        EXPECT_EQ(three.pixels[3 * i], 0);
        EXPECT_EQ(three.pixels[3 * i + 1], one.pixels[i]) << method_name(method);
        EXPECT_EQ(three.pixels[3 * i + 2], 0);
      }
    }
}

TEST(Resize, TheSameSizeIsTheSameImage) {
  const Image image = noise(11, 17, 3);
  for (const ResizeMethod& method : all_methods())
    EXPECT_EQ(resize(image, 11, 17, method), image) << method_name(method);
}

TEST(Resize, HalfOfOpenCvIsTheRoundedMeanOfFour) {
  Image image(2, 2, 1);
  image.pixels = {1, 2, 3, 4};
  for (const ResizeFilter filter : {ResizeFilter::kBilinear, ResizeFilter::kArea})
    EXPECT_EQ(resize(image, 1, 1, {ResizeLibrary::kOpenCv, filter}).pixels[0], 3);  // 2.5
}

}  // namespace
}  // namespace quell
