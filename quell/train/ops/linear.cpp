// x weight^T + bias.
#include "quell/train/torch_op.h"

namespace quell::train {

extern const TorchOp k_linear;
const TorchOp k_linear = {&op_linear, [](TorchCall& call) -> torch::Tensor {
                            return torch::linear(call.in(kLinearInput), call.weight(), call.bias());
                          }};

}  // namespace quell::train
