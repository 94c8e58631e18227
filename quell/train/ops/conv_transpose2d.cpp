// A transposed convolution over images.
#include "quell/train/ops/planes.h"

namespace quell::train {

extern const TorchOp k_conv_transpose2d;
const TorchOp k_conv_transpose2d = {
    &op_conv_transpose2d, [](TorchCall& call) -> torch::Tensor {
      const auto& conv = call.attributes<ConvAttributes>();
      const Window& w = conv.window;
      const ImageSize image = image_size(call.rows(0), call.node().label);
      const ImageSize size = image_under(image, w, conv.more);

      const torch::Tensor rows = call.weight();
      const torch::Tensor weight =
          rows.view({rows.size(0), w.kernel_height, w.kernel_width, -1}).permute({3, 0, 1, 2});
      const torch::Tensor whole = torch::conv_transpose2d(planes_of(call, kLinearInput), weight, {},
                                                          {w.stride_height, w.stride_width}, 0, 0,
                                                          1, {w.dilation_height, w.dilation_width});

      // What is left of it behind the padding, and what lies behind the last window.
      const ImagePadding cut{.top = -w.padding.top,
                             .bottom = size.height + w.padding.top - whole.size(2),
                             .left = -w.padding.left,
                             .right = size.width + w.padding.left - whole.size(3)};
      const torch::Tensor out = rows_of(padded(whole, cut, 0));
      const torch::Tensor bias = call.bias();
      return bias.defined() ? out + bias : out;
    }};

}  // namespace quell::train
