// Channels of several values.
#include "quell/graph/image_ops.h"
#include "quell/train/torch_op.h"

namespace quell::train {

extern const TorchOp k_concatenate;
const TorchOp k_concatenate = {&op_concatenate, [](TorchCall& call) -> torch::Tensor {
                                 std::vector<torch::Tensor> operands;
                                 for (std::size_t i = 0; i < call.node().in.size(); ++i)
                                   operands.push_back(call.in(i));
                                 return torch::cat(operands, 1);
                               }};

}  // namespace quell::train
