// cap * tanh(x / cap), of logits.
#include "quell/train/torch_op.h"

namespace quell::train {

extern const TorchOp k_soft_cap;
const TorchOp k_soft_cap = {&op_soft_cap, [](TorchCall& call) -> torch::Tensor {
                              const double cap = call.attributes<double>();
                              return torch::tanh(call.in(0) / cap) * cap;
                            }};

}  // namespace quell::train
