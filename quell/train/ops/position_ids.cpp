// Position ids of the tokens, by the model's rule.
#include "quell/train/torch_op.h"

namespace quell::train {

extern const TorchOp k_position_ids;
const TorchOp k_position_ids = {
    &op_position_ids, [](TorchCall& call) -> torch::Tensor {
      return to_torch(position_ids(call.attributes<PositionAttributes>(), call.tokens()));
    }};

}  // namespace quell::train
