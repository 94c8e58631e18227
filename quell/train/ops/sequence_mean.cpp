// Each row becomes the mean of the rows of its sequence, padding left out.
#include "quell/graph/image_ops.h"
#include "quell/train/torch_op.h"

namespace quell::train {

extern const TorchOp k_sequence_mean;
const TorchOp k_sequence_mean = {
    &op_sequence_mean, [](TorchCall& call) -> torch::Tensor {
      const TokenBatch& batch = call.tokens();
      const torch::Tensor x = call.in(0);
      const torch::Tensor mask =
          to_torch(batch.mask).to(call.dtype()).view({batch.batch, batch.length, 1});
      const torch::Tensor sums =
          (x.view({batch.batch, batch.length, x.size(1)}) * mask).sum(1, true);
      const torch::Tensor means = sums / mask.sum(1, true).clamp_min(1);
      return means.expand({batch.batch, batch.length, x.size(1)}).reshape(x.sizes());
    }};

}  // namespace quell::train
