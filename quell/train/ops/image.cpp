// Pixels to rows, one a pixel.
#include "quell/base/error.h"
#include "quell/train/ops/planes.h"

namespace quell::train {

extern const TorchOp k_image;
const TorchOp k_image = {
    &op_image, [](TorchCall& call) -> torch::Tensor {
      const auto& image = call.attributes<ImageAttributes>();
      const std::int64_t batch = call.tokens().batch;
      const torch::Tensor pixels = call.in(0);
      require(pixels.numel() == batch * image.channels * image.size.pixels(),
              ErrorCode::kInvalidInput, "pixels: ", pixels.numel(), " values, expected ", batch,
              " images of ", image.channels, " x ", image.size.height, " x ", image.size.width);
      return rows_of(pixels.view({batch, image.channels, image.size.height, image.size.width}));
    }};

}  // namespace quell::train
