// Decoding, resizing and preprocessing against what Pillow, OpenCV, torchvision and transformers
// made of small images (tests/golden/images/record.py).
#include <gtest/gtest.h>

#include <map>

#include "quell/base/error.h"
#include "quell/io/json.h"
#include "quell/io/safetensors.h"
#include "quell/vision/decode_image.h"
#include "quell/vision/preprocessor_config.h"
#include "quell/vision/resize.h"
#include "tests/support/support.h"

namespace quell {
namespace {

const std::filesystem::path kImages =
    std::filesystem::path(QUELL_SOURCE_DIR) / "tests/golden/images";

/// [height, width, channels] of bytes.
Image image_of(const TensorView& view) {
  Image image(view.shape()[0], view.shape()[1], view.shape()[2]);
  const std::span<const std::uint8_t> bytes = view.as<std::uint8_t>();
  image.pixels.assign(bytes.begin(), bytes.end());
  return image;
}

/// How many values differ, and by how much at most.
std::string difference(const Image& a, const Image& b) {
  if (a.height != b.height || a.width != b.width || a.channels != b.channels) return "sizes differ";
  int count = 0;
  int most = 0;
  for (std::size_t i = 0; i < a.pixels.size(); ++i) {
    const int gap = std::abs(a.pixels[i] - b.pixels[i]);
    count += gap > 0;
    most = std::max(most, gap);
  }
  return count == 0 ? "none" : str(count, " values differ, by up to ", most);
}

TEST(GoldenImages, DecodedAsPillowDecodes) {
  const SafetensorsFile decoded(kImages / "decoded.safetensors");
  ASSERT_EQ(decoded.tensors().size(), 11U);
  for (const auto& [name, pixels] : decoded.tensors())
    EXPECT_EQ(difference(read_image(kImages / "files" / name), image_of(pixels)), "none") << name;
}

const std::map<std::string, ResizeFilter> kFilters = {
    {"nearest", ResizeFilter::kNearest},   {"box", ResizeFilter::kBox},
    {"bilinear", ResizeFilter::kBilinear}, {"hamming", ResizeFilter::kHamming},
    {"bicubic", ResizeFilter::kBicubic},   {"lanczos", ResizeFilter::kLanczos},
};

TEST(GoldenImages, ResizedAsPillowAndTorchvisionResize) {
  const SafetensorsFile resized(kImages / "resized.safetensors");
  const Image image = image_of(resized.at("image"));
  int cases = 0;
  for (const auto& [name, view] : resized.tensors()) {
    if (name == "image") continue;
    const std::size_t dot = name.find('.');
    const std::string library = name.substr(0, dot);
    const std::string filter = name.substr(dot + 1, name.rfind('.') - dot - 1);
    const ResizeMethod method = {
        library == "pillow" ? ResizeLibrary::kPillow : ResizeLibrary::kTorchvision,
        kFilters.at(filter)};
    ASSERT_TRUE(can_resize(method)) << name;
    const Image expected = image_of(view);
    EXPECT_EQ(difference(resize(image, expected.height, expected.width, method), expected), "none")
        << name;
    ++cases;
  }
  EXPECT_EQ(cases, 50);
}

TEST(GoldenImages, ResizedAsOpenCvResizes) {
  const SafetensorsFile resized(kImages / "opencv.safetensors");
  const Image image = image_of(SafetensorsFile(kImages / "resized.safetensors").at("image"));

  for (const auto& [name, view] : resized.tensors()) {
    const ResizeMethod method = {ResizeLibrary::kOpenCv, name.starts_with("area")
                                                             ? ResizeFilter::kArea
                                                             : ResizeFilter::kBilinear};
    const Image expected = image_of(view);
    EXPECT_EQ(difference(resize(image, expected.height, expected.width, method), expected), "none")
        << name;
  }
  EXPECT_EQ(resized.tensors().size(), 14U);
}

TEST(GoldenImages, PreparedAsTransformersPrepares) {
  const Json configs = read_json_file(kImages / "processors.json");
  const SafetensorsFile expected(kImages / "processors.safetensors");
  const Image image = image_of(expected.at("image"));

  ASSERT_EQ(configs.size(), 20U);
  for (const auto& [name, config] : configs.items()) {
    const Settings settings(config, name);
    const Preprocessing steps = read_preprocessor_config(settings);
    judge_leftovers(settings, preprocessor_key_rules());

    const PixelValues values = preprocess(image, steps, name);
    const TensorView& want = expected.at(name);
    ASSERT_EQ(values.size, (ImageSize{want.shape()[0], want.shape()[1]})) << name;
    int different = 0;
    float most = 0;
    for (std::size_t i = 0; i < want.f32().size(); ++i) {
      const float gap = std::abs(values.values.f32()[i] - want.f32()[i]);
      different += gap > 0;
      most = std::max(most, gap);
    }
    EXPECT_EQ(different, 0) << name << ": of " << want.numel() << ", by up to " << most;
  }
}

}  // namespace
}  // namespace quell
