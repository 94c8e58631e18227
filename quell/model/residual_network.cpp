#include "quell/model/residual_network.h"

namespace quell {
namespace {

constexpr double kEps = 1e-5;

/// Every second pixel, and zeros for the channels that are new, on both sides.
ValueId plain_shortcut(ModelBuilder& g, const ResidualBlock& block, ValueId x) {
  PoolAttributes pick;
  pick.window = {.stride_height = block.stride, .stride_width = block.stride};
  PadAttributes zeros;
  zeros.channels_before = (block.channels - g.columns(x)) / 2;
  zeros.channels_behind = block.channels - g.columns(x) - zeros.channels_before;
  const ValueId pixels = g.node(op_pool, {x}, Attributes::of(pick));
  return g.node(op_pad, {pixels}, Attributes::of(zeros));
}

ValueId shortcut(ModelBuilder& g, const ResidualSizes& sizes, const ResidualNames& names,
                 const ResidualBlock& block, ValueId x, const std::string& label) {
  if (block.stride == 1 && g.columns(x) == block.channels) return x;
  if (sizes.cifar) return plain_shortcut(g, block, x);

  const ValueId y = g.conv2d(label + "shortcut", names.shortcut(false), x, block.channels,
                             square_conv(1, block.stride));
  return g.batch_norm(label + "shortcut_norm", names.shortcut(true), y, kEps);
}

/// The convolutions of a block: kernel and stride of each, and channels.
struct Branch {
  std::vector<std::int64_t> kernels;
  std::vector<std::int64_t> strides;
  std::vector<std::int64_t> channels;
};

Branch branch_of(const ResidualSizes& sizes, const ResidualBlock& block) {
  if (!sizes.bottleneck) return {{3, 3}, {block.stride, 1}, {block.channels, block.channels}};

  constexpr std::int64_t kReduction = 4;
  const std::int64_t narrow = block.channels / kReduction;
  Branch branch{{1, 3, 1}, {1, 1, 1}, {narrow, narrow, block.channels}};
  branch.strides[sizes.strides_at_first ? 0 : 1] = block.stride;
  return branch;
}

}  // namespace

ValueId residual_block(ModelBuilder& g, const ResidualSizes& sizes, const ResidualNames& names,
                       const ResidualBlock& block, ValueId x, const std::string& label) {
  const Branch branch = branch_of(sizes, block);
  // First, so that it is there when the last convolution of the branch could add it.
  const ValueId beside = shortcut(g, sizes, names, block, x, label);
  ValueId y = x;
  for (std::size_t i = 0; i < branch.kernels.size(); ++i) {
    const int number = static_cast<int>(i);
    const std::string digit = std::to_string(i + 1);
    if (i > 0) y = g.activation(sizes.activation, y);
    y = g.conv2d(label + "conv" + digit, names.conv(number, false), y, branch.channels[i],
                 square_conv(branch.kernels[i], branch.strides[i]));
    y = g.batch_norm(label + "norm" + digit, names.conv(number, true), y, kEps);
  }
  return g.activation(sizes.activation, g.add(y, beside));
}

ValueId residual_stem(ModelBuilder& g, const ResidualSizes& sizes, const ResidualNames& names,
                      ValueId x) {
  const ConvAttributes conv = sizes.cifar ? square_conv(3, 1) : square_conv(7, 2);
  ValueId h = g.conv2d("stem", names.stem(false), x, sizes.stem, conv);
  h = g.batch_norm("stem_norm", names.stem(true), h, kEps);
  h = g.activation(sizes.activation, h);
  if (sizes.cifar) return h;

  PoolAttributes pool;
  pool.window = square_conv(3, 2).window;
  return g.node(op_pool, {h}, Attributes::of(pool));
}

}  // namespace quell
