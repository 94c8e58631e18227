// x below 0 times a weight, of each channel or of all.
#include "quell/graph/image_ops.h"
#include "quell/train/torch_op.h"

namespace quell::train {

extern const TorchOp k_prelu;
const TorchOp k_prelu = {&op_prelu, [](TorchCall& call) -> torch::Tensor {
                           const torch::Tensor x = call.in(0);
                           return torch::where(x > 0, x, x * call.weight());
                         }};

}  // namespace quell::train
