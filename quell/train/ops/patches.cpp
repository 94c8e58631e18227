// Pixels to rows, one a patch: what a convolution with the stride of its kernel sees.
#include "quell/base/error.h"
#include "quell/train/torch_op.h"

namespace quell::train {

extern const TorchOp k_patches;
const TorchOp k_patches = {
    &op_patches, [](TorchCall& call) -> torch::Tensor {
      const auto& p = call.attributes<PatchAttributes>();
      const std::int64_t batch = call.tokens().batch;
      const std::int64_t side = p.image_size / p.patch_size;
      const torch::Tensor pixels = call.in(0);
      require(pixels.numel() == batch * p.num_channels * p.image_size * p.image_size,
              ErrorCode::kInvalidInput, "pixels: ", pixels.numel(), " values, expected ", batch,
              " images of ", p.num_channels, " x ", p.image_size, " x ", p.image_size);

      const torch::Tensor cut =
          pixels.view({batch, p.num_channels, side, p.patch_size, side, p.patch_size});
      return cut.permute({0, 2, 4, 1, 3, 5}).reshape({batch * side * side, -1});
    }};

}  // namespace quell::train
