// A norm over each head's columns, in front of the rotation.
#include "quell/train/ops/normalized.h"

namespace quell::train {

extern const TorchOp k_head_norm;
const TorchOp k_head_norm = {
    &op_head_norm, [](TorchCall& call) -> torch::Tensor {
      const torch::Tensor x = call.in(0);
      const torch::Tensor weight = call.weight();
      const torch::Tensor heads = x.reshape({-1, weight.size(0)});
      return normalized(norm_of(call.node()), heads, weight, call.bias()).view(x.sizes());
    }};

}  // namespace quell::train
