#include "quell/vision/preprocessing.h"

#include <gtest/gtest.h>

#include "quell/base/error.h"
#include "quell/io/json.h"
#include "quell/vision/preprocessor_config.h"

namespace quell {
namespace {

template <typename Call>
std::string preprocessing_refusal(Call call) {
  try {
    call();
  } catch (const Error& e) {
    return e.what();
  }
  return "accepted";
}

Settings settings_of(const std::string& text, AcceptedKeys accepted = {}) {
  return Settings(parse_json(text, "p.json"), "p.json", std::move(accepted));
}

Preprocessing read_config(const std::string& text, AcceptedKeys accepted = {}) {
  const Settings settings = settings_of(text, std::move(accepted));
  const Preprocessing steps = read_preprocessor_config(settings);
  judge_leftovers(settings, preprocessor_key_rules());
  return steps;
}

std::string config_refusal(const std::string& text) {
  return preprocessing_refusal([&] { read_config(text); });
}

/// Pixels count up from 0.
Image counted(std::int64_t height, std::int64_t width, std::int64_t channels) {
  Image image(height, width, channels);
  for (std::size_t i = 0; i < image.pixels.size(); ++i)
    image.pixels[i] = static_cast<std::uint8_t>(i);
  return image;
}

TEST(Preprocessing, ChannelsLastInTheOrderOfTheModel) {
  Preprocessing steps;
  steps.channels = ChannelOrder::kBgr;
  steps.normalization = {Arithmetic::kSeparate, 1, 0, {1, 2, 3}, {1, 2, 4}, {}};
  const PixelValues out = preprocess(counted(1, 2, 3), steps, "x");
  EXPECT_EQ(out.values.shape(), Shape({2, 3}));
  const std::vector<float> values(out.values.f32().begin(), out.values.f32().end());
  EXPECT_EQ(values, (std::vector<float>{1, -0.5F, -0.75F, 4, 1, 0}));
}

TEST(Preprocessing, GreyCountsAsThreeEqualColoursAndNeverTheOtherWayRound) {
  Preprocessing steps;
  const Image out = arrange(counted(1, 2, 1), steps, "x");
  EXPECT_EQ(out.pixels, (std::vector<std::uint8_t>{0, 0, 0, 1, 1, 1}));

  steps.channels = ChannelOrder::kGrey;
  EXPECT_EQ(arrange(counted(1, 2, 1), steps, "x").channels, 1);
  EXPECT_EQ(preprocessing_refusal([&] { arrange(counted(1, 2, 3), steps, "x.png"); }),
            "x.png: an image of 3 channels, and the model reads 1");
}

TEST(Preprocessing, CropsTheMiddleAndFillsWithZeros) {
  Preprocessing steps;
  steps.channels = ChannelOrder::kGrey;
  steps.crop = CropStep{{1, 2}, CropStep::OddRow::kBehind};
  EXPECT_EQ(arrange(counted(3, 5, 1), steps, "x").pixels, (std::vector<std::uint8_t>{6, 7}));

  steps.crop = CropStep{{2, 4}, CropStep::OddRow::kBehind};
  const Image image = counted(1, 3, 1);
  EXPECT_EQ(arrange(image, steps, "x").pixels, (std::vector<std::uint8_t>{0, 1, 2, 0, 0, 0, 0, 0}));
  steps.crop->odd_row = CropStep::OddRow::kInFront;
  EXPECT_EQ(arrange(image, steps, "x").pixels, (std::vector<std::uint8_t>{0, 0, 0, 0, 0, 0, 1, 2}));
}

TEST(Preprocessing, SizesThatDoNotFitAreRefused) {
  Preprocessing steps;
  steps.result = ImageSize{3, 5};
  EXPECT_EQ(arrange(counted(3, 5, 3), steps, "x").width, 5);
  EXPECT_EQ(preprocessing_refusal([&] { arrange(counted(5, 3, 3), steps, "x.png"); }),
            "x.png: 3 x 5 pixels, and the model reads 5 x 3");

  steps.result.reset();
  steps.resize = ResizeStep{{}, {}, 8192};
  EXPECT_EQ(preprocessing_refusal([&] { arrange(counted(1, 9, 3), steps, "x.png"); }),
            "x.png: 9 x 1 pixels become 73728 x 8192 when resized, more than the 67108864 that are "
            "read");
}

TEST(PreprocessorConfig, MissingKeysHaveTheDefaultsOfTheirClass) {
  const Preprocessing vit = read_config(R"({"image_processor_type": "ViTImageProcessor"})");
  ASSERT_TRUE(vit.resize.has_value());
  EXPECT_EQ(vit.resize->size, (ImageSize{224, 224}));
  EXPECT_EQ(vit.resize->method,
            (ResizeMethod{ResizeLibrary::kTorchvision, ResizeFilter::kBilinear}));
  EXPECT_FALSE(vit.crop.has_value());
  EXPECT_EQ(vit.normalization.mean, (std::vector<double>{0.5, 0.5, 0.5}));
  EXPECT_EQ(vit.result, (ImageSize{224, 224}));

  const Preprocessing mobile =
      read_config(R"({"feature_extractor_type": "MobileNetV2FeatureExtractor", "size": 300})");
  EXPECT_EQ(mobile.resize->shortest_edge, 300);
  EXPECT_EQ(mobile.crop->size, (ImageSize{224, 224}));

  const Preprocessing deit = read_config(R"({"image_processor_type": "DeiTImageProcessorPil"})");
  EXPECT_EQ(deit.resize->method, (ResizeMethod{ResizeLibrary::kPillow, ResizeFilter::kBicubic}));
  EXPECT_EQ(deit.normalization.arithmetic, Arithmetic::kSeparate);
}

TEST(PreprocessorConfig, ConvNextEnlargesBelow384AndStretchesFromThere) {
  const std::string type = R"({"image_processor_type": "ConvNextImageProcessor")";
  const Preprocessing small = read_config(type + R"(, "size": {"shortest_edge": 224}})");
  EXPECT_EQ(small.resize->shortest_edge, 256);
  EXPECT_EQ(small.crop->size, (ImageSize{224, 224}));
  const Preprocessing large = read_config(type + "}");
  EXPECT_EQ(large.resize->shortest_edge, 0);
  EXPECT_EQ(large.resize->size, (ImageSize{384, 384}));
  EXPECT_FALSE(large.crop.has_value());
}

TEST(PreprocessorConfig, WhatIsNotKnownIsRefusedByName) {
  EXPECT_EQ(config_refusal(R"({"image_processor_type": "CLIPImageProcessor"})"),
            "p.json: key \"image_processor_type\": no rules for \"CLIPImageProcessor\"");
  EXPECT_EQ(config_refusal("{}"), "p.json: key \"image_processor_type\" is missing");
  const std::string vit = R"({"image_processor_type": "ViTImageProcessor", )";
  EXPECT_EQ(config_refusal(vit + R"("do_flip_channel_order": true})"),
            "p.json: key \"do_flip_channel_order\" (true): an unknown setting is not "
            "supported; --accept do_flip_channel_order goes on without it, with other results");
  EXPECT_EQ(config_refusal(vit + R"("do_pad": true})"),
            "p.json: key \"do_pad\" (true): padding is not supported; --accept do_pad goes on "
            "without it, with other results");
  EXPECT_EQ(config_refusal(vit + R"("do_flip_channel_order": false, "do_pad": null,
                                    "processor_class": "X"})"),
            "accepted");
  EXPECT_NO_THROW(read_config(vit + R"("do_pad": true})", AcceptedKeys({"do_pad"})));
}

TEST(PreprocessorConfig, WrongValuesAreRefusedByName) {
  const std::string vit = R"({"image_processor_type": "ViTImageProcessor", )";
  EXPECT_EQ(config_refusal(vit + R"("resample": 4})"),
            "p.json: key \"resample\": torchvision does not resize by box");
  EXPECT_EQ(config_refusal(vit + R"("resample": 9})"),
            "p.json: key \"resample\": expected an integer up to 5, found 9");
  EXPECT_EQ(config_refusal(vit + R"("image_std": [1, 0, 1]})"),
            "p.json: key \"image_std\": expected numbers above 0");
  EXPECT_EQ(config_refusal(vit + R"("image_mean": [1, 2]})"),
            "p.json: key \"image_mean\": 2 numbers for 3 channels");
  EXPECT_EQ(config_refusal(vit + R"("size": {"height": 3}})"), "p.json: key \"width\" is missing");
  EXPECT_EQ(config_refusal(vit + R"("size": "large"})"),
            "p.json: key \"size\": expected an object, found \"large\"");
  EXPECT_EQ(config_refusal(vit + R"("size": {"height": 3, "width": 3, "depth": 3}})"),
            "p.json: key \"size.depth\" (3): an unknown setting is not supported; "
            "--accept size.depth goes on without it, with other results");
  EXPECT_EQ(config_refusal(vit + R"("do_center_crop": true})"),
            "p.json: key \"crop_size\" is missing");
  EXPECT_EQ(config_refusal(vit + R"("rescale_factor": 0})"),
            "p.json: key \"rescale_factor\": expected a number above 0");
}

TEST(PreprocessKey, OfANetworkDescription) {
  const std::string text = R"json({"input": [3, 256, 512], "preprocess": {
    "channels": "BGR", "scale": "divide by 255", "mean": [0.1, 0.2, 0.3], "std": 0.5,
    "resize": "by area (cv2 INTER_AREA)"}})json";
  const Preprocessing steps = read_preprocess_key(settings_of(text));
  EXPECT_EQ(steps.channels, ChannelOrder::kBgr);
  EXPECT_EQ(steps.resize->method, (ResizeMethod{ResizeLibrary::kOpenCv, ResizeFilter::kArea}));
  EXPECT_EQ(steps.resize->size, (ImageSize{256, 512}));
  EXPECT_EQ(steps.normalization.factor, 1.0 / 255.0);
  EXPECT_EQ(steps.normalization.std, (std::vector<double>{0.5, 0.5, 0.5}));
  EXPECT_EQ(steps.result, (ImageSize{256, 512}));
}

TEST(PreprocessKey, MistakesAreTold) {
  const auto refusal_of = [](const std::string& text) {
    return preprocessing_refusal([&] { read_preprocess_key(settings_of(text)); });
  };
  EXPECT_EQ(refusal_of(R"({"input": [3, 8, 8], "preprocess": {"scale": "divide by 256"}})"),
            "p.json: key \"preprocess.scale\": \"divide by 256\" is neither \"divide by 255\" nor "
            "\"raw 0..255 values\"");
  EXPECT_EQ(refusal_of(R"({"input": [1, 8, 8], "preprocess": {"scale": "divide by 255"}})"),
            "p.json: key \"input\": 1 channels, and \"preprocess.channels\" has 3");
  EXPECT_EQ(
      refusal_of(R"({"input": [3, 8, 8], "preprocess":
                           {"scale": "divide by 255", "resize": "somehow"}})"),
      "p.json: key \"preprocess.resize\": expected a text with one of OpenCV's INTER_AREA and "
      "INTER_LINEAR, found \"somehow\"");
  EXPECT_EQ(
      refusal_of(R"({"input": [3, 8, 8], "preprocess": {"gamma": 2}})"),
      "p.json: key \"preprocess.gamma\" (2): known are channels, scale, mean, std and resize; "
      "--accept preprocess.gamma goes on without it, with other results");
  EXPECT_EQ(refusal_of(R"({"input": [3, 8, 8], "preprocess":
                           {"scale": "divide by 255", "mean": 1}})"),
            "p.json: key \"preprocess\": mean and std come together");
}

/// The numbers are those of LSTR's code.
TEST(LstrSettings, SayTheSize) {
  const auto settings = [](const std::string& size) {
    return settings_of(R"({"system": {}, "db": {"input_size": )" + size + "}}");
  };
  const Preprocessing steps = read_lstr_settings(settings("[360, 640]"));
  EXPECT_EQ(steps.channels, ChannelOrder::kBgr);
  ASSERT_TRUE(steps.resize.has_value());
  EXPECT_EQ(steps.resize->method, (ResizeMethod{ResizeLibrary::kOpenCv, ResizeFilter::kBilinear}));
  EXPECT_EQ(steps.resize->size, (ImageSize{360, 640}));
  EXPECT_EQ(steps.result, (ImageSize{360, 640}));
  EXPECT_EQ(steps.normalization.mean.front(), 0.40789654);

  for (const char* size : {"null", "[360]", "[0, 640]", "[360, 9000]", "[360, \"x\"]"}) {
    const std::string said = preprocessing_refusal([&] { read_lstr_settings(settings(size)); });
    EXPECT_TRUE(said.starts_with("p.json: key \"db.input_size\": expected [height, width]"))
        << said;
  }
}

}  // namespace
}  // namespace quell
