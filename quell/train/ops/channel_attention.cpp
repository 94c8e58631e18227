// Attention of channels to channels, over all pixels of an image.
#include "quell/train/ops/planes.h"

namespace quell::train {

extern const TorchOp k_channel_attention;
const TorchOp k_channel_attention = {
    &op_channel_attention, [](TorchCall& call) -> torch::Tensor {
      const torch::Tensor x = call.in(0);
      const std::int64_t pixels = image_size(call.rows(0), call.node().label).pixels();
      const torch::Tensor images = x.reshape({-1, pixels, x.size(1)});
      const torch::Tensor likeness = torch::matmul(images.transpose(1, 2), images);
      const torch::Tensor map = torch::softmax(-likeness, -1);
      const torch::Tensor attended = torch::matmul(images, map.transpose(1, 2));
      return (call.weight() * attended + images).view(x.sizes());
    }};

}  // namespace quell::train
