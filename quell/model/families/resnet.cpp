// ResNet (He et al. 2016): blocks of two or three convolutions beside a shortcut. In the names of
// transformers, of torchvision (ImageNet), and of the reference for CIFAR, whose shortcut has no
// weights.
#include "quell/base/error.h"
#include "quell/model/residual_network.h"

namespace quell {
namespace {

constexpr KeyRule kKeys[] = {
    // Of backbones, which are not read here.
    {"out_features"}, {"out_indices"}, {"_out_features"}, {"_out_indices"}, {"stage_names"},
};

struct Known {
  std::string_view name;
  bool bottleneck;
  std::vector<std::int64_t> depths;
};

/// Those that their authors call by the number of their layers.
ResidualSizes sizes_of(const std::string& architecture) {
  const Known known[] = {{"resnet18", false, {2, 2, 2, 2}}, {"resnet34", false, {3, 4, 6, 3}},
                         {"resnet50", true, {3, 4, 6, 3}},  {"resnet20", false, {3, 3, 3}},
                         {"resnet32", false, {5, 5, 5}},    {"resnet44", false, {7, 7, 7}},
                         {"resnet56", false, {9, 9, 9}}};
  for (const Known& k : known) {
    if (k.name != architecture) continue;
    ResidualSizes sizes{.bottleneck = k.bottleneck, .depths = k.depths};
    sizes.cifar = k.depths.size() == 3;
    sizes.stem = sizes.cifar ? 16 : 64;
    for (std::size_t i = 0; i < k.depths.size(); ++i)
      sizes.channels.push_back((sizes.stem << i) * (k.bottleneck ? 4 : 1));
    return sizes;
  }
  refuse_architecture(architecture, "resnet");
}

ResidualSizes read_sizes(const Config& c) {
  ResidualSizes sizes;
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

void build(ModelBuilder& g, const Config& c) {
  const std::string architecture = architecture_of(c);
  const bool is_class = architecture.empty() || architecture == "ResNetForImageClassification";
  const ResidualSizes sizes = is_class ? read_sizes(c) : sizes_of(architecture);
  const ResidualNames names{.hugging_face = is_class, .cifar = sizes.cifar};

  const std::int64_t side = read_int(c, "image_size", 1, kMaxInputSide, sizes.cifar ? 32 : 224);
  const std::int64_t colours = read_int(c, "num_channels", 1, 1 << 10, 3);
  ValueId h = residual_stem(g, sizes, names, g.image({.channels = colours, .size = {side, side}}));
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
