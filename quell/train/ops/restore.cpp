// x * scale + shift by channel, for readers of the original meaning.
#include "quell/train/torch_op.h"

namespace quell::train {

extern const TorchOp k_restore;
const TorchOp k_restore = {&op_restore, [](TorchCall& call) -> torch::Tensor {
                             const ChannelAffine& a = affine_of(call.node());
                             const torch::Tensor x = call.in(0) * to_torch(a.scale, call.dtype());
                             return a.shift.defined() ? x + to_torch(a.shift, call.dtype()) : x;
                           }};

}  // namespace quell::train
