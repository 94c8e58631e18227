// ResNet (He et al. 2016): blocks of two or three convolutions beside a shortcut. In the names of
// transformers, of torchvision (ImageNet), and of the reference for CIFAR, whose shortcut has no
// weights.
#include "quell/base/error.h"
#include "quell/model/image_config.h"

namespace quell {
namespace {

constexpr KeyRule kKeys[] = {
    // Of backbones, which are not read here.
    {"out_features"}, {"out_indices"}, {"_out_features"}, {"_out_indices"}, {"stage_names"},
};

constexpr double kEps = 1e-5;

struct Sizes {
  bool bottleneck = false;
  std::int64_t stem = 64;  ///< channels
  bool cifar = false;      ///< a stem of 3 x 3, shortcuts without weights
  std::vector<std::int64_t> channels = {};
  std::vector<std::int64_t> depths = {};
  bool halves_first_stage = false;
  bool strides_at_first = false;  ///< of a bottleneck: at its 1 x 1, not at its 3 x 3
  ActivationKind activation = ActivationKind::kRelu;
};

/// What the modules of a checkpoint are called.
struct Names {
  bool hugging_face = true;
  bool cifar = false;

  std::string stem(bool norm) const {
    if (!hugging_face) return norm ? "bn1" : "conv1";
    return norm ? "resnet.embedder.embedder.normalization" : "resnet.embedder.embedder.convolution";
  }
  std::string block(std::size_t stage, std::int64_t index) const {
    const std::string number = std::to_string(index);
    if (!hugging_face) return "layer" + std::to_string(stage + 1) + "." + number;
    return "resnet.encoder.stages." + std::to_string(stage) + ".layers." + number;
  }
  /// Convolution `i` of a block, counted from 0.
  std::string conv(int i, bool norm) const {
    if (!hugging_face) return (norm ? "bn" : "conv") + std::to_string(i + 1);
    return "layer." + std::to_string(i) + (norm ? ".normalization" : ".convolution");
  }
  std::string shortcut(bool norm) const {
    if (!hugging_face) return norm ? "downsample.1" : "downsample.0";
    return norm ? "shortcut.normalization" : "shortcut.convolution";
  }
  std::string classifier() const {
    if (hugging_face) return "classifier.1";
    return cifar ? "linear" : "fc";
  }
};

struct Known {
  std::string_view name;
  bool bottleneck;
  std::vector<std::int64_t> depths;
};

/// Those that their authors call by the number of their layers.
Sizes sizes_of(const std::string& architecture) {
  const Known known[] = {{"resnet18", false, {2, 2, 2, 2}}, {"resnet34", false, {3, 4, 6, 3}},
                         {"resnet50", true, {3, 4, 6, 3}},  {"resnet20", false, {3, 3, 3}},
                         {"resnet32", false, {5, 5, 5}},    {"resnet44", false, {7, 7, 7}},
                         {"resnet56", false, {9, 9, 9}}};
  for (const Known& k : known) {
    if (k.name != architecture) continue;
    Sizes sizes{.bottleneck = k.bottleneck, .depths = k.depths};
    sizes.cifar = k.depths.size() == 3;
    sizes.stem = sizes.cifar ? 16 : 64;
    for (std::size_t i = 0; i < k.depths.size(); ++i)
      sizes.channels.push_back((sizes.stem << i) * (k.bottleneck ? 4 : 1));
    return sizes;
  }
  refuse_architecture(architecture, "resnet");
}

Sizes read_sizes(const Config& c) {
  Sizes sizes;
  sizes.stem = read_int(c, "embedding_size", 1, kMaxDim, 64);
  sizes.channels = {256, 512, 1024, 2048};
  sizes.depths = {3, 4, 6, 3};
  if (c.contains("hidden_sizes")) sizes.channels = read_int_list(c, "hidden_sizes", 0, 1, kMaxDim);
  if (c.contains("depths")) sizes.depths = read_int_list(c, "depths", 0, 1, kMaxLayers);
  require(sizes.channels.size() == sizes.depths.size(), ErrorCode::kInvalidInput,
          "key \"depths\": has ", sizes.depths.size(), " stages, and hidden_sizes ",
          sizes.channels.size());
  const std::string type = read_string(c, "layer_type", "bottleneck");
  require(type == "basic" || type == "bottleneck", ErrorCode::kUnsupported,
          "key \"layer_type\": \"", type, "\" is not supported");
  sizes.bottleneck = type == "bottleneck";
  sizes.halves_first_stage = read_bool(c, "downsample_in_first_stage", false);
  sizes.strides_at_first = read_bool(c, "downsample_in_bottleneck", false);
  sizes.activation = read_image_activation(c, "hidden_act", "relu");
  return sizes;
}

struct Block {
  std::int64_t channels = 0;
  std::int64_t stride = 1;
};

/// Every second pixel, and zeros for the channels that are new, on both sides.
ValueId plain_shortcut(ModelBuilder& g, const Block& block, ValueId x) {
  PoolAttributes pick;
  pick.window = {.stride_height = block.stride, .stride_width = block.stride};
  PadAttributes zeros;
  zeros.channels_before = (block.channels - g.columns(x)) / 2;
  zeros.channels_behind = block.channels - g.columns(x) - zeros.channels_before;
  const ValueId pixels = g.node(op_pool, {x}, Attributes::of(pick));
  return g.node(op_pad, {pixels}, Attributes::of(zeros));
}

ValueId shortcut(ModelBuilder& g, const Sizes& sizes, const Names& names, const Block& block,
                 ValueId x) {
  if (block.stride == 1 && g.columns(x) == block.channels) return x;
  if (sizes.cifar) return plain_shortcut(g, block, x);

  const ValueId y =
      g.conv2d("shortcut", names.shortcut(false), x, block.channels, square_conv(1, block.stride));
  return g.batch_norm("shortcut_norm", names.shortcut(true), y, kEps);
}

/// The convolutions of a block: kernel and stride of each, and channels.
struct Branch {
  std::vector<std::int64_t> kernels;
  std::vector<std::int64_t> strides;
  std::vector<std::int64_t> channels;
};

Branch branch_of(const Sizes& sizes, const Block& block) {
  if (!sizes.bottleneck) return {{3, 3}, {block.stride, 1}, {block.channels, block.channels}};

  constexpr std::int64_t kReduction = 4;
  const std::int64_t narrow = block.channels / kReduction;
  Branch branch{{1, 3, 1}, {1, 1, 1}, {narrow, narrow, block.channels}};
  branch.strides[sizes.strides_at_first ? 0 : 1] = block.stride;
  return branch;
}

ValueId residual_block(ModelBuilder& g, const Sizes& sizes, const Names& names, const Block& block,
                       ValueId x) {
  const Branch branch = branch_of(sizes, block);
  ValueId y = x;
  for (std::size_t i = 0; i < branch.kernels.size(); ++i) {
    const int number = static_cast<int>(i);
    const std::string label = std::to_string(i + 1);
    if (i > 0) y = g.activation(sizes.activation, y);
    y = g.conv2d("conv" + label, names.conv(number, false), y, branch.channels[i],
                 square_conv(branch.kernels[i], branch.strides[i]));
    y = g.batch_norm("norm" + label, names.conv(number, true), y, kEps);
  }
  const ValueId beside = shortcut(g, sizes, names, block, x);
  return g.activation(sizes.activation, g.add(y, beside));
}

ValueId stem(ModelBuilder& g, const Sizes& sizes, const Names& names, ValueId x) {
  const ConvAttributes conv = sizes.cifar ? square_conv(3, 1) : square_conv(7, 2);
  ValueId h = g.conv2d("stem", names.stem(false), x, sizes.stem, conv);
  h = g.batch_norm("stem_norm", names.stem(true), h, kEps);
  h = g.activation(sizes.activation, h);
  if (sizes.cifar) return h;

  PoolAttributes pool;
  pool.window = square_conv(3, 2).window;
  return g.node(op_pool, {h}, Attributes::of(pool));
}

void build(ModelBuilder& g, const Config& c) {
  const std::string architecture = architecture_of(c);
  const bool is_class = architecture.empty() || architecture == "ResNetForImageClassification";
  const Sizes sizes = is_class ? read_sizes(c) : sizes_of(architecture);
  const Names names{.hugging_face = is_class, .cifar = sizes.cifar};

  const std::int64_t side = read_int(c, "image_size", 1, kMaxImageSide, sizes.cifar ? 32 : 224);
  const std::int64_t colours = read_int(c, "num_channels", 1, 1 << 10, 3);
  ValueId h = stem(g, sizes, names, g.image({.channels = colours, .size = {side, side}}));
  std::int64_t number = 0;
  for (std::size_t stage = 0; stage < sizes.depths.size(); ++stage)
    for (std::int64_t i = 0; i < sizes.depths[stage]; ++i) {
      const auto layer = g.layer(number++, names.block(stage, i));
      const bool halves = i == 0 && (stage > 0 || sizes.halves_first_stage);
      h = residual_block(g, sizes, names, {sizes.channels[stage], halves ? 2 : 1}, h);
    }

  g.spec.hidden_size = sizes.channels.back();
  g.spec.max_position_embeddings = 1;  // an image is one row behind the mean
  g.spec.head = Head::kImageClassification;
  g.begin_head();
  const ValueId mean = g.node(op_global_mean, {h});
  std::int64_t classes = is_class ? 2 : 1000;
  if (sizes.cifar) classes = 10;
  g.output("logits", g.linear("classifier", names.classifier(), mean, num_labels(c, classes),
                              {.bias = true, .role = Role::kClassifier}));
}

}  // namespace

extern const Family k_resnet;
const Family k_resnet = {
    "resnet",
    "resnet.",
    build,
    "ResNet; also as resnet18, 34, 50 (torchvision) and resnet20, 32, 44, 56 (CIFAR)",
    "ResNetForImageClassification",
    kKeys};

}  // namespace quell
