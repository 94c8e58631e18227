// Attention of pixels to all pixels of their image, scores unscaled.
#include "quell/train/ops/planes.h"

namespace quell::train {

extern const TorchOp k_position_attention;
const TorchOp k_position_attention = {
    &op_position_attention, [](TorchCall& call) -> torch::Tensor {
      const torch::Tensor x = call.in(kAttendedImage);
      const std::int64_t pixels = image_size(call.rows(0), call.node().label).pixels();
      const auto images = [&](std::size_t operand) {
        const torch::Tensor rows = call.in(operand);
        return rows.reshape({-1, pixels, rows.size(1)});
      };
      const torch::Tensor scores =
          torch::matmul(images(kPositionQuery), images(kPositionKey).transpose(1, 2));
      const torch::Tensor context =
          torch::matmul(torch::softmax(scores, -1), images(kPositionValue));
      return x + call.weight() * context.view(x.sizes());
    }};

}  // namespace quell::train
