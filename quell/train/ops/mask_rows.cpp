// 0 at padding.
#include "quell/train/torch_op.h"

namespace quell::train {

extern const TorchOp k_mask_rows;
const TorchOp k_mask_rows = {&op_mask_rows, [](TorchCall& call) -> torch::Tensor {
                               const torch::Tensor mask =
                                   to_torch(call.tokens().mask).to(call.dtype());
                               return call.in(0) * mask.unsqueeze(1);
                             }};

}  // namespace quell::train
