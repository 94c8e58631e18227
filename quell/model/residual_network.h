// Residual networks (He et al. 2016): a stem, and blocks of two or three convolutions beside a
// shortcut.
#pragma once

#include <string>
#include <vector>

#include "quell/model/image_config.h"

namespace quell {

struct ResidualSizes {
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
struct ResidualNames {
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

struct ResidualBlock {
  std::int64_t channels = 0;
  std::int64_t stride = 1;
};

/// Convolution, batch norm, activation, and a pool where images are large.
ValueId residual_stem(ModelBuilder& g, const ResidualSizes& sizes, const ResidualNames& names,
                      ValueId x);
/// Modules are called as `names` says within the scope, nodes `label` and their own name.
ValueId residual_block(ModelBuilder& g, const ResidualSizes& sizes, const ResidualNames& names,
                       const ResidualBlock& block, ValueId x, const std::string& label = "");

}  // namespace quell
