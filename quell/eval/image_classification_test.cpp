// Classes of images by hand: a model whose logits are the means of red, green and blue.
#include "quell/eval/image_classification.h"

#include <gtest/gtest.h>

#include <cmath>

#include "quell/base/error.h"
#include "quell/graph/image_ops.h"
#include "quell/model/family.h"

namespace quell {
namespace {

Model means_of_colours() {
  ModelBuilder g;
  g.spec.model_type = "means";
  g.spec.max_position_embeddings = 1;
  const ValueId pixels = g.image({.channels = 3, .size = {2, 2}});
  const ValueId mean = g.node(op_global_mean, {pixels});
  g.hidden_state(mean);
  g.output("logits", g.linear("classifier", "classifier", mean, 3));
  std::map<std::string, Tensor> weights;
  const std::vector<float> one = {1, 0, 0, 0, 1, 0, 0, 0, 1};
  weights["classifier.weight"] = Tensor::from<float>(one, {3, 3});
  return make_model({g.spec, g.take()}, std::move(weights));
}

/// Images of one colour each.
class Colours final : public ImageSource {
 public:
  Colours(std::vector<std::array<std::uint8_t, 3>> colours, std::vector<std::int32_t> labels)
      : colours_(std::move(colours)), labels_(std::move(labels)) {}

  std::int64_t size() const override { return std::ssize(colours_); }
  std::string name(std::int64_t i) const override { return "image " + std::to_string(i); }
  std::optional<std::int32_t> label(std::int64_t i) const override {
    return labels_[static_cast<std::size_t>(i)];
  }
  Image image(std::int64_t i) const override {
    Image out(2, 2, 3);
    std::size_t at = 0;
    for (int p = 0; p < 4; ++p)
      for (const std::uint8_t level : colours_[static_cast<std::size_t>(i)])
        out.pixels[at++] = level;
    return out;
  }

 private:
  std::vector<std::array<std::uint8_t, 3>> colours_;
  std::vector<std::int32_t> labels_;
};

const std::vector<std::array<std::uint8_t, 3>> kColours = {
    {200, 10, 10}, {10, 200, 10}, {10, 10, 200}, {200, 100, 10}};

TEST(ImageClassification, CountsImagesInTheirClass) {
  const Model model = means_of_colours();
  const auto engine = make_float_model(model);
  const Colours images(kColours, {0, 1, 2, 1});
  ExecContext ctx(2);

  ImageReference itself{.model = engine.get()};
  const auto all = evaluate_images(*engine, &itself, {.images = images, .batch = 3}, ctx);
  ASSERT_EQ(all.size(), 4U) << "of three classes the first five say nothing";
  EXPECT_EQ(all[0].metric, "top-1");
  EXPECT_EQ(all[0].value, 75);
  EXPECT_EQ(all[0].samples, 4);
  EXPECT_EQ(all[1].metric, "top-1 agreement");
  EXPECT_EQ(all[1].value, 100);
  EXPECT_EQ(all[2].metric, "top-1 difference");
  EXPECT_EQ(all[2].value, 0);

  // Against one that was right on the first image alone: two are won, none is lost.
  ImageReference worse{.classes = {0, 0, 0, 0}, .right = {true, false, false, false}};
  const auto better = evaluate_images(*engine, &worse, {.images = images}, ctx);
  EXPECT_EQ(better[1].value, 50);
  EXPECT_EQ(better[2].value, 50);
  EXPECT_NEAR(better[3].value, 100 * 1.96 * std::sqrt((0.5 - 0.25) / 4), 1e-9);

  const auto some =
      evaluate_images(*engine, nullptr, {.images = images, .skip = 2, .limit = 2}, ctx);
  EXPECT_EQ(some[0].value, 50);
  EXPECT_EQ(some[0].samples, 2);
}

TEST(ImageClassification, SaysWhatDoesNotFit) {
  const Model model = means_of_colours();
  const auto engine = make_float_model(model);
  const Colours images(kColours, {0, 1, 2, 3});
  ExecContext ctx(1);
  const auto refusal = [&](const ImageEvalSet& set) -> std::string {
    try {
      evaluate_images(*engine, nullptr, set, ctx);
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  };
  EXPECT_NE(refusal({.images = images}).find("image 3: label 3, and the model has 3 classes"),
            std::string::npos);
  EXPECT_NE(refusal({.images = images, .skip = 4}).find("there are 4"), std::string::npos);
}

}  // namespace
}  // namespace quell
