// The product of two values, element by element.
#include "quell/train/torch_op.h"

namespace quell::train {

extern const TorchOp k_multiply;
const TorchOp k_multiply = {
    &op_multiply, [](TorchCall& call) -> torch::Tensor { return call.in(0) * call.in(1); }};

}  // namespace quell::train
