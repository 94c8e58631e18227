// Families of image models: names, shapes and numbers of parameters, as their authors count them.
#include <gtest/gtest.h>

#include "quell/base/error.h"
#include "quell/graph/image_ops.h"
#include "quell/io/json.h"
#include "quell/model/family.h"
#include "quell/model/model.h"

namespace quell {
namespace {

Architecture image_model(const Json& config) { return build_architecture(Settings(config)); }

/// Without statistics of batch norms.
std::int64_t learned(const Graph& graph) {
  std::int64_t count = 0;
  for (const ParamDef& p : graph.params()) {
    count += p.shape.numel();
    if (p.has_bias) count += p.shape[0];
  }
  return count;
}

/// Of a weight, as a checkpoint stores it; nothing where it has none of that name.
std::optional<Shape> stored_shape_of(const Graph& graph, const std::string& tensor) {
  for (const ParamDef& p : graph.params())
    if (p.weight_tensor() == tensor) return packed_shape(p.packing, p.shape);
  return std::nullopt;
}

TEST(ImageFamilies, ResNetsOfTorchvision) {
  const auto of = [](const char* name) {
    return image_model({{"model_type", "resnet"}, {"architectures", {name}}}).graph;
  };
  EXPECT_EQ(learned(of("resnet18")), 11689512);
  EXPECT_EQ(learned(of("resnet34")), 21797672);
  const Graph graph = of("resnet50");
  EXPECT_EQ(learned(graph), 25557032);
  EXPECT_EQ(stored_shape_of(graph, "conv1.weight"), (Shape{64, 3, 7, 7}));
  EXPECT_EQ(stored_shape_of(graph, "layer2.0.conv2.weight"), (Shape{128, 128, 3, 3}));
  EXPECT_EQ(stored_shape_of(graph, "layer1.0.downsample.0.weight"), (Shape{256, 64, 1, 1}));
  EXPECT_EQ(stored_shape_of(graph, "layer4.2.bn3.weight"), (Shape{2048}));
  EXPECT_EQ(stored_shape_of(graph, "fc.weight"), (Shape{1000, 2048}));
  const NodeId halved = graph.find("layers.3.conv2");
  EXPECT_EQ(graph.node(halved).attributes.get<ConvAttributes>().window.stride_height, 2);
}

TEST(ImageFamilies, ResNetsOfTransformers) {
  const Json basic = {{"model_type", "resnet"}, {"architectures", {"ResNetForImageClassification"}},
                      {"layer_type", "basic"},  {"hidden_sizes", {64, 128, 256, 512}},
                      {"depths", {2, 2, 2, 2}}, {"num_labels", 1000}};
  const Graph graph = image_model(basic).graph;
  EXPECT_EQ(learned(graph), 11689512) << "ResNet-18";
  const std::string stages = "resnet.encoder.stages.";
  EXPECT_EQ(stored_shape_of(graph, "resnet.embedder.embedder.convolution.weight"),
            (Shape{64, 3, 7, 7}));
  EXPECT_EQ(stored_shape_of(graph, stages + "1.layers.0.shortcut.convolution.weight"),
            (Shape{128, 64, 1, 1}));
  EXPECT_EQ(stored_shape_of(graph, stages + "3.layers.1.layer.1.normalization.weight"),
            (Shape{512}));
  EXPECT_EQ(stored_shape_of(graph, "classifier.1.weight"), (Shape{1000, 512}));

  const Graph bottleneck = image_model({{"model_type", "resnet"}, {"num_labels", 1000}}).graph;
  EXPECT_EQ(learned(bottleneck), 25557032) << "the defaults are ResNet-50's";
}

TEST(ImageFamilies, ResNetsForCifar) {
  const auto of = [](const char* name) {
    return learned(image_model({{"model_type", "resnet"}, {"architectures", {name}}}).graph);
  };
  // As their author's table has them: 0.27, 0.46, 0.66 and 0.85 million.
  EXPECT_EQ(of("resnet20"), 269722);
  EXPECT_EQ(of("resnet32"), 464154);
  EXPECT_EQ(of("resnet44"), 658586);
  EXPECT_EQ(of("resnet56"), 853018);
  EXPECT_THROW(of("resnet21"), Error);
}

TEST(ImageFamilies, MobileNetV2) {
  const Graph graph = image_model({{"model_type", "mobilenet_v2"}, {"num_labels", 1000}}).graph;
  EXPECT_EQ(learned(graph), 3504872);
  // Of 224 pixels halved with TensorFlow's padding: nothing in front, one pixel behind.
  const auto& conv = graph.node(graph.find("first_conv")).attributes.get<ConvAttributes>();
  EXPECT_EQ(conv.window.padding, (ImagePadding{0, 1, 0, 1}));

  const Json small = {{"model_type", "mobilenet_v2"},
                      {"depth_multiplier", 0.35},
                      {"output_stride", 16},
                      {"num_labels", 1001}};
  const Graph narrow = image_model(small).graph;
  EXPECT_EQ(stored_shape_of(narrow, "mobilenet_v2.layer.15.reduce_1x1.convolution.weight"),
            (Shape{112, 336, 1, 1}));
  EXPECT_EQ(stored_shape_of(narrow, "classifier.weight"), (Shape{1001, 1280}));
  const auto& last =
      narrow.node(narrow.find("layers.15.conv_3x3")).attributes.get<ConvAttributes>();
  EXPECT_EQ(last.window.dilation_height, 2) << "instead of the fifth stride";
}

TEST(ImageFamilies, RefuseWhatTheyDoNotKnow) {
  const auto refuses = [](Json config) {
    EXPECT_THROW(image_model(config), Error) << config.dump();
  };
  refuses({{"model_type", "resnet"}, {"layer_type", "wide"}});
  refuses({{"model_type", "resnet"}, {"depths", {3, 4}}});
  refuses({{"model_type", "resnet"}, {"hidden_act", "swoosh"}});
  refuses({{"model_type", "resnet"}, {"architectures", {"ResNetBackbone"}}});
  refuses({{"model_type", "mobilenet_v2"}, {"depth_multiplier", 0}});
  refuses({{"model_type", "resnet"}, {"image_size", 0}});
}

}  // namespace
}  // namespace quell
