// A learned row in front of the rows of each sequence (the class token of ViT).
#include "quell/train/torch_op.h"

namespace quell::train {

extern const TorchOp k_prepend_token;
const TorchOp k_prepend_token = {
    &op_prepend_token, [](TorchCall& call) -> torch::Tensor {
      const TokenBatch& batch = call.tokens();
      const torch::Tensor x = call.in(0);
      const std::int64_t columns = x.size(1);
      const torch::Tensor token =
          call.weight().reshape({1, 1, columns}).expand({batch.batch, 1, -1});
      const torch::Tensor rest = x.view({batch.batch, batch.length - 1, columns});
      return torch::cat({token, rest}, 1).view({batch.rows(), columns});
    }};

}  // namespace quell::train
