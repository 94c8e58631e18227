// MobileNetV2 (Sandler et al. 2018): narrow values between blocks, wide ones inside, where
// convolutions go channel by channel.
#include <algorithm>
#include <cmath>

#include "quell/base/error.h"
#include "quell/model/image_config.h"

namespace quell {
namespace {

constexpr KeyRule kKeys[] = {
    {"classifier_dropout_prob"}, {"semantic_loss_ignore_index"},  // of training
};

constexpr std::int64_t kChannels[] = {16, 24, 24, 32, 32,  32,  64,  64, 64,
                                      64, 96, 96, 96, 160, 160, 160, 320};
constexpr std::int64_t kStrides[] = {2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1};
constexpr std::size_t kBlocks = std::size(kStrides);

struct Sizes {
  double depth_multiplier = 1;
  std::int64_t divisor = 8;
  std::int64_t min_depth = 8;
  double expand_ratio = 6;
  std::int64_t output_stride = 32;
  bool tf_padding = true;
  double eps = 0.001;
  ActivationKind activation = ActivationKind::kRelu6;

  /// To a multiple of the divisor, at most a tenth below.
  std::int64_t divisible(double channels) const {
    const auto wanted = static_cast<std::int64_t>(std::nearbyint(channels));
    const std::int64_t near = (wanted + divisor / 2) / divisor * divisor;
    const std::int64_t made = std::max(min_depth, near);
    const bool too_small = static_cast<double>(made) < 0.9 * static_cast<double>(wanted);
    return too_small ? made + divisor : made;
  }
  std::int64_t multiplied(std::int64_t channels) const {
    return divisible(static_cast<double>(channels) * depth_multiplier);
  }
};

/// What a convolution has beside its channels.
struct Layer {
  std::int64_t kernel = 1;
  std::int64_t stride = 1;
  std::int64_t dilation = 1;
  bool depthwise = false;
  bool activation = true;
};

/// TensorFlow's "SAME": as many windows as strides fit, what is missing on the right and below.
void pad_along(std::int64_t size, const Layer& layer, std::int64_t& before, std::int64_t& behind) {
  const std::int64_t rest = size % layer.stride;
  const std::int64_t missing =
      std::max<std::int64_t>(layer.kernel - (rest == 0 ? layer.stride : rest), 0);
  before = missing / 2 * layer.dilation;
  behind = (missing - missing / 2) * layer.dilation;
}

ValueId conv_layer(ModelBuilder& g, const Sizes& sizes, const std::string& name, ValueId x,
                   std::int64_t out, const Layer& layer) {
  ConvAttributes conv = square_conv(layer.kernel, layer.stride, layer.depthwise ? g.columns(x) : 1);
  Window& w = conv.window;
  w.dilation_height = w.dilation_width = layer.dilation;
  const std::int64_t pad = layer.kernel / 2 * layer.dilation;
  w.padding = {pad, pad, pad, pad};
  if (sizes.tf_padding) {
    const ImageSize image = image_size(g.graph().value(x).type.rows, name);
    pad_along(image.height, layer, w.padding.top, w.padding.bottom);
    pad_along(image.width, layer, w.padding.left, w.padding.right);
  }

  const auto scope = g.scope(name);
  ValueId h = g.conv2d(name, "convolution", x, out, conv);
  h = g.batch_norm(name + "_norm", "normalization", h, sizes.eps);
  return layer.activation ? g.activation(sizes.activation, h) : h;
}

ValueId inverted_residual(ModelBuilder& g, const Sizes& sizes, ValueId x, std::int64_t out,
                          std::int64_t stride, std::int64_t dilation) {
  const std::int64_t in = g.columns(x);
  const std::int64_t wide = sizes.divisible(static_cast<double>(in) * sizes.expand_ratio);
  ValueId h = conv_layer(g, sizes, "expand_1x1", x, wide, {});
  h = conv_layer(g, sizes, "conv_3x3", h, wide,
                 {.kernel = 3, .stride = stride, .dilation = dilation, .depthwise = true});
  h = conv_layer(g, sizes, "reduce_1x1", h, out, {.activation = false});
  return stride == 1 && in == out ? g.add(x, h) : h;
}

ValueId stem(ModelBuilder& g, const Config& c, const Sizes& sizes, ValueId x) {
  const auto scope = g.scope("mobilenet_v2.conv_stem");
  const std::int64_t wide = sizes.multiplied(32);
  ValueId h = conv_layer(g, sizes, "first_conv", x, wide, {.kernel = 3, .stride = 2});
  if (!read_bool(c, "first_layer_is_expansion", true))
    h = conv_layer(g, sizes, "expand_1x1", h, wide, {});
  h = conv_layer(g, sizes, "conv_3x3", h, wide, {.kernel = 3, .depthwise = true});
  return conv_layer(g, sizes, "reduce_1x1", h, sizes.multiplied(kChannels[0]),
                    {.activation = false});
}

Sizes read_sizes(const Config& c) {
  Sizes sizes;
  sizes.depth_multiplier = read_number(c, "depth_multiplier", 1);
  sizes.divisor = read_int(c, "depth_divisible_by", 1, 1 << 10, 8);
  sizes.min_depth = read_int(c, "min_depth", 1, 1 << 10, 8);
  sizes.expand_ratio = read_number(c, "expand_ratio", 6);
  for (const double factor : {sizes.depth_multiplier, sizes.expand_ratio})
    require(factor > 0 && factor <= 64, ErrorCode::kInvalidInput,
            "keys \"depth_multiplier\" and \"expand_ratio\": must lie in (0, 64]");
  sizes.output_stride = read_int(c, "output_stride", 1, 32, 32);
  const bool is_reached = sizes.output_stride > 1 && 32 % sizes.output_stride == 0;
  require(is_reached, ErrorCode::kInvalidInput, "key \"output_stride\": must be 2, 4, 8, 16 or 32");
  sizes.tf_padding = read_bool(c, "tf_padding", true);
  sizes.eps = read_number(c, "layer_norm_eps", 0.001);
  sizes.activation = read_image_activation(c, "hidden_act", "relu6");
  return sizes;
}

void build(ModelBuilder& g, const Config& c) {
  const std::string name = architecture_of(c);
  if (!name.empty() && name != "MobileNetV2ForImageClassification")
    refuse_architecture(name, "mobilenet_v2");

  const Sizes sizes = read_sizes(c);
  const std::int64_t side = read_int(c, "image_size", 1, kMaxInputSide, 224);
  const std::int64_t colours = read_int(c, "num_channels", 1, 1 << 10, 3);
  ValueId h = stem(g, c, sizes, g.image({.channels = colours, .size = {side, side}}));

  // Where the image has become as small as it may, what strides would skip is dilated over.
  std::int64_t reached = 2;
  std::int64_t dilation = 1;
  for (std::size_t i = 0; i < kBlocks; ++i) {
    const auto layer = g.layer("mobilenet_v2.layer", static_cast<std::int64_t>(i));
    const bool is_small = reached == sizes.output_stride;
    const std::int64_t out = sizes.multiplied(kChannels[i + 1]);
    h = inverted_residual(g, sizes, h, out, is_small ? 1 : kStrides[i], is_small ? dilation : 1);
    if (is_small)
      dilation *= kStrides[i];
    else
      reached *= kStrides[i];
  }

  const bool keeps_width = read_bool(c, "finegrained_output", true) && sizes.depth_multiplier < 1;
  constexpr std::int64_t kWidth = 1280;
  {
    const auto scope = g.scope("mobilenet_v2");
    h = conv_layer(g, sizes, "conv_1x1", h, keeps_width ? kWidth : sizes.multiplied(kWidth), {});
  }
  g.spec.hidden_size = g.columns(h);
  g.spec.max_position_embeddings = 1;  // an image is one row behind the mean
  g.spec.head = Head::kImageClassification;
  g.begin_head();
  const ValueId mean = g.node(op_global_mean, {h});
  g.output("logits", g.linear("classifier", "classifier", mean, num_labels(c),
                              {.bias = true, .role = Role::kClassifier}));
}

}  // namespace

extern const Family k_mobilenet_v2;
const Family k_mobilenet_v2 = {"mobilenet_v2",
                               "mobilenet_v2.",
                               build,
                               "MobileNetV2: images, convolutions channel by channel",
                               "MobileNetV2ForImageClassification",
                               kKeys};

}  // namespace quell
