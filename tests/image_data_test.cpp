// Images and networks in $QUELL_DATA: decoders and resizing against recorded hashes and pixels.
#include <gtest/gtest.h>

#include <algorithm>

#include "quell/base/error.h"
#include "quell/io/safetensors.h"
#include "quell/vision/decode_image.h"
#include "quell/vision/image_source.h"
#include "quell/vision/label_file.h"
#include "quell/vision/preprocessor_config.h"
#include "tests/support/sha256.h"
#include "tests/support/support.h"

namespace quell {
namespace {

struct HashedArchive {
  const char* name;
  std::int64_t size;
  const char* hash;  ///< of all pixels, in order
};

class DecodedPixels : public ::testing::TestWithParam<HashedArchive> {};

TEST_P(DecodedPixels, HaveTheRecordedHashes) {
  const HashedArchive& archive = GetParam();
  const std::string folder = "data/vision/imagenet-sample/";
  QUELL_NEED_DATA(tar, folder + archive.name + ".tar");
  QUELL_NEED_DATA(label_file, folder + archive.name + "_labels.tsv");
  const auto source = open_images({.images = tar});
  const LabelFile labels = read_labels(label_file);
  ASSERT_EQ(source->size(), archive.size);

  testing::Sha256 all;
  int different = 0;
  for (std::int64_t i = 0; i < source->size(); ++i) {
    const Image image = source->image(i);
    testing::Sha256 one;
    one.add(image.pixels);
    all.add(image.pixels);

    const LabelRow& row = labels.rows[static_cast<std::size_t>(i)];
    ASSERT_EQ(source->label(i), row.label);
    ASSERT_EQ(row.others.size(), 3U);
    different += one.hex().substr(0, 16) != row.others[2];
  }
  EXPECT_EQ(different, 0);
  EXPECT_EQ(all.hex(), archive.hash);
}

INSTANTIATE_TEST_SUITE_P(
    ImageNetSample, DecodedPixels,
    ::testing::Values(
        HashedArchive{"val1000", 1000,
                      "6e963faf3fd815d6c4de9396ae0747149a5d9da5cf021ff5db194320e8d49fd3"},
        HashedArchive{"calib256", 256,
                      "f1940b773c9aaa59530590ee87880a7e9357113c4a349b2060b66696e52bff20"}),
    [](const auto& archive) { return std::string(archive.param.name); });

/// Of [3, height, width] and an image in the same order of channels.
std::int64_t different_pixels(const TensorView& planes, const Image& image) {
  EXPECT_EQ(planes.shape(), Shape({3, image.height, image.width}));
  const std::int64_t plane = image.height * image.width;
  const std::span<const std::uint8_t> expected = planes.as<std::uint8_t>();
  std::int64_t different = 0;
  for (std::int64_t i = 0; i < plane; ++i)
    for (std::int64_t c = 0; c < 3; ++c) {
      const auto at = static_cast<std::size_t>(c * plane + i);
      different += expected[at] != image.pixels[static_cast<std::size_t>(3 * i + c)];
    }
  return different;
}

class ResizedFrame : public ::testing::TestWithParam<std::string> {};

TEST_P(ResizedFrame, HasThePixelsOfTheReference) {
  QUELL_NEED_DATA(reference, "models/" + GetParam() + "/reference.safetensors");
  QUELL_NEED_DATA(frame, "data/vision/tusimple-sample/training_data_example/image/0000.png");
  const Preprocessing steps = read_preprocessing(reference.parent_path());
  const Image image = arrange(read_image(frame), steps, frame.string());
  EXPECT_EQ(different_pixels(SafetensorsFile(reference).at("image_u8"), image), 0);
}

INSTANTIATE_TEST_SUITE_P(Lanes, ResizedFrame, ::testing::Values("quantlanenet", "twinlitenet"),
                         [](const auto& name) { return name.param; });

TEST(ResizedImages, HalvedCulaneFrame) {
  QUELL_NEED_DATA(inputs, "golden/vision/lstr-culane-forward/inputs.safetensors");
  QUELL_NEED_DATA(frame, "data/vision/culane-night-sample/00810.jpg");
  const ResizeMethod method = {ResizeLibrary::kOpenCv, ResizeFilter::kBilinear};
  const Image image = resize(read_image(frame), 295, 820, method);
  EXPECT_EQ(different_pixels(SafetensorsFile(inputs).at("first_image_u8"), image), 0);
}

TEST(ResizedImages, PillowsBilinearOfALaneFrame) {
  QUELL_NEED_DATA(reference, "models/lstr-lane/reference.safetensors");
  QUELL_NEED_DATA(frame, "data/vision/tusimple-sample/tusimple_test_image/0.jpg");
  Preprocessing steps;
  steps.channels = ChannelOrder::kBgr;
  steps.resize = ResizeStep{{ResizeLibrary::kPillow, ResizeFilter::kBilinear}, {360, 640}, 0};
  steps.normalization.factor = 1.0 / 255.0;
  steps.normalization.mean = {0.40789654, 0.44719302, 0.47026115};
  steps.normalization.std = {0.28863828, 0.27408164, 0.27809835};

  const PixelValues values = preprocess(read_image(frame), steps, frame.string());
  const SafetensorsFile file(reference);
  const TensorView& expected = file.at("image");
  ASSERT_EQ(expected.shape(), Shape({3, 360, 640}));
  float most = 0;
  for (std::int64_t i = 0; i < 360 * 640; ++i)
    for (std::int64_t c = 0; c < 3; ++c) {
      const float want = expected.f32()[static_cast<std::size_t>(c * 360 * 640 + i)];
      most = std::max(most, std::abs(values.values.row(i)[c] - want));
    }
  EXPECT_LT(most, 1e-6F);
}

class NetworkImages : public ::testing::TestWithParam<std::string> {};

TEST_P(NetworkImages, AreOfTheSample) {
  QUELL_NEED_DATA(reference, "models/" + GetParam() + "/reference.safetensors");
  QUELL_NEED_DATA(tar, "data/vision/imagenet-sample/val1000.tar");
  const Preprocessing steps = read_preprocessing(reference.parent_path());
  EXPECT_EQ(steps.result, (ImageSize{224, 224}));
  const SafetensorsFile file(reference);
  const TensorView& stored = file.at("images_u8");
  const auto source = open_images({.images = tar});

  // Which two they are is not said.
  for (std::int64_t n = 0; n < stored.shape()[0]; ++n) {
    const TensorView planes(stored.as<std::uint8_t>().data() + n * 3 * 224 * 224, DType::kU8,
                            {3, 224, 224});
    bool found = false;
    for (std::int64_t i = 0; i < 40 && !found; ++i)
      found = different_pixels(planes, source->image(i)) == 0;
    EXPECT_TRUE(found) << n;
  }
}

INSTANTIATE_TEST_SUITE_P(Described, NetworkImages,
                         ::testing::Values("efficientnet-lite0", "mobilenet-v2"),
                         [](const auto& name) { return testing::test_name(name.param); });

/// Means of the first image's channels, and labels, say that sizes and order are right.
TEST(ImageArrays, CifarTwice) {
  QUELL_NEED_DATA(lossless, "data/vision/cifar10/test1000_lossless.bin");
  QUELL_NEED_DATA(train, "data/vision/cifar10/train4000_lossless.bin");
  const auto source = open_images({.images = lossless});
  ASSERT_EQ(source->size(), 1000);
  // The official test set begins cat, ship, ship, airplane, frog.
  const std::vector<int> first = {3, 8, 8, 0, 6};
  for (std::size_t i = 0; i < first.size(); ++i)
    EXPECT_EQ(source->label(static_cast<std::int64_t>(i)), first[i]);
  EXPECT_EQ(open_images({.images = train})->size(), 4000);
}

TEST(ImageArrays, JpegCifarIsNearTheLosslessOne) {
  QUELL_NEED_DATA(lossless, "data/vision/cifar10/test1000_lossless.bin");
  QUELL_NEED_DATA(tar, "data/vision/cifar10/test10000_jpeg.tar");
  const auto exact = open_images({.images = lossless});
  const auto jpeg = open_images({.images = tar});
  ASSERT_EQ(jpeg->size(), 10000);

  // The first ship of the official order is among the ships of the tar.
  const Image ship = exact->image(1);
  double least = 255;
  for (std::int64_t i = 0; i < jpeg->size(); ++i) {
    if (jpeg->label(i) != 8) continue;
    const Image other = jpeg->image(i);
    ASSERT_EQ(other.pixels.size(), ship.pixels.size());
    double sum = 0;
    for (std::size_t p = 0; p < ship.pixels.size(); ++p)
      sum += std::abs(ship.pixels[p] - other.pixels[p]);
    least = std::min(least, sum / static_cast<double>(ship.pixels.size()));
  }
  EXPECT_LT(least, 8);
}

TEST(ImageArrays, MnistCompressed) {
  QUELL_NEED_DATA(images, "data/vision/mnist/t10k-images-idx3-ubyte.gz");
  const auto source = open_images({.images = images});
  ASSERT_EQ(source->size(), 10000);
  const std::vector<int> first = {7, 2, 1, 0, 4, 1, 4, 9, 5, 9};
  for (std::size_t i = 0; i < first.size(); ++i)
    EXPECT_EQ(source->label(static_cast<std::int64_t>(i)), first[i]);

  double sum = 0;
  for (std::int64_t i = 0; i < source->size(); ++i)
    for (const std::uint8_t value : source->image(i).pixels) sum += value;
  EXPECT_NEAR(sum / (10000.0 * 784 * 255), 0.1325, 1e-4);  // the published mean of the test set
}

TEST(ImageArrays, LaneMasksAreRead) {
  QUELL_NEED_DATA(folder, "data/vision/tusimple-sample/training_data_example");
  const auto source = open_images({.images = folder, .use = ImageLabels::kIgnore});
  ASSERT_EQ(source->size(), 18);
  for (std::int64_t i = 0; i < source->size(); ++i) {
    const Image image = source->image(i);
    EXPECT_EQ(image.width, 1280) << source->name(i);
    EXPECT_EQ(image.height, 720) << source->name(i);
  }
}

}  // namespace
}  // namespace quell
