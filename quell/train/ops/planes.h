// What ops of images share: rows of pixels as torch has images, and back.
#pragma once

#include "quell/graph/image_ops.h"
#include "quell/train/torch_op.h"

namespace quell::train {

/// Operand `i`, [images * pixels, channels], as [images, channels, height, width].
inline torch::Tensor planes_of(const TorchCall& call, std::size_t i) {
  const ImageSize size = image_size(call.rows(i), call.node().label);
  const torch::Tensor x = call.in(i);
  return x.reshape({-1, size.height, size.width, x.size(1)}).permute({0, 3, 1, 2});
}

inline torch::Tensor rows_of(const torch::Tensor& planes) {
  return planes.permute({0, 2, 3, 1}).reshape({-1, planes.size(1)});
}

/// With `value` around it; negative widths cut off.
inline torch::Tensor padded(const torch::Tensor& planes, const ImagePadding& p, double value) {
  return torch::constant_pad_nd(planes, {p.left, p.right, p.top, p.bottom}, value);
}

/// With what `size` windows reach, and no more.
inline torch::Tensor reached_by(const torch::Tensor& planes, const Window& w, ImageSize size,
                                double value) {
  const auto reach = [](std::int64_t count, std::int64_t stride, std::int64_t dilation,
                        std::int64_t kernel) {
    return (count - 1) * stride + dilation * (kernel - 1) + 1;
  };
  const std::int64_t rows = reach(size.height, w.stride_height, w.dilation_height, w.kernel_height);
  const std::int64_t columns = reach(size.width, w.stride_width, w.dilation_width, w.kernel_width);
  const ImagePadding around{.top = w.padding.top,
                            .bottom = rows - planes.size(2) - w.padding.top,
                            .left = w.padding.left,
                            .right = columns - planes.size(3) - w.padding.left};
  return padded(planes, around, value);
}

}  // namespace quell::train
