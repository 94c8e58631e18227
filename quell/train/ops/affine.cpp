// What a migration leaves in the graph: (x - shift) / scale by channel.
#include "quell/train/torch_op.h"

namespace quell::train {

extern const TorchOp k_affine;
const TorchOp k_affine = {&op_affine, [](TorchCall& call) -> torch::Tensor {
                            const ChannelAffine& a = affine_of(call.node());
                            torch::Tensor x = call.in(0);
                            if (a.shift.defined()) x = x - to_torch(a.shift, call.dtype());
                            return x / to_torch(a.scale, call.dtype());
                          }};

}  // namespace quell::train
