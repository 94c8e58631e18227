// A convolution over images: groups, dilation, strides, padding on each side.
#include "quell/train/ops/planes.h"

namespace quell::train {
namespace {

/// Padded with the value that each channel has for it.
torch::Tensor with_padding(const torch::Tensor& planes, const ConvAttributes& conv,
                           ImageSize size) {
  if (conv.padding_value.empty()) return reached_by(planes, conv.window, size, 0);
  const torch::Tensor values =
      torch::tensor(conv.padding_value, planes.options().requires_grad(false)).view({1, -1, 1, 1});
  return reached_by(planes - values, conv.window, size, 0) + values;
}

}  // namespace

extern const TorchOp k_conv2d;
const TorchOp k_conv2d = {
    &op_conv2d, [](TorchCall& call) -> torch::Tensor {
      const auto& conv = call.attributes<ConvAttributes>();
      const Window& w = conv.window;
      const ImageSize size = windows_over(image_size(call.rows(0), call.node().label), w);
      const torch::Tensor planes = with_padding(planes_of(call, kLinearInput), conv, size);

      const torch::Tensor rows = call.weight();
      const torch::Tensor weight =
          rows.view({rows.size(0), w.kernel_height, w.kernel_width, -1}).permute({0, 3, 1, 2});
      return rows_of(torch::conv2d(planes, weight, call.bias(), {w.stride_height, w.stride_width},
                                   at::IntArrayRef{0, 0}, {w.dilation_height, w.dilation_width},
                                   conv.groups));
    }};

}  // namespace quell::train
