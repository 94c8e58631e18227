// Between 0 and a bound of each channel.
#include "quell/graph/image_ops.h"
#include "quell/train/torch_op.h"

namespace quell::train {

extern const TorchOp k_clamp;
const TorchOp k_clamp = {&op_clamp, [](TorchCall& call) -> torch::Tensor {
                           const std::vector<float>& high = call.attributes<ClampAttributes>().high;
                           const torch::Tensor bounds = torch::tensor(high).to(call.dtype());
                           return torch::minimum(torch::relu(call.in(0)), bounds);
                         }};

}  // namespace quell::train
