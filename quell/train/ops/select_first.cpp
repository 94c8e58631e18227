// The first token of each sequence.
#include "quell/train/torch_op.h"

namespace quell::train {

extern const TorchOp k_select_first;
const TorchOp k_select_first = {
    &op_select_first, [](TorchCall& call) -> torch::Tensor {
      const TokenBatch& batch = call.tokens();
      const torch::Tensor x = call.in(0);
      return x.view({batch.batch, batch.length, x.size(1)}).select(1, 0);
    }};

}  // namespace quell::train
