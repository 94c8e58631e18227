// Times one number.
#include "quell/train/torch_op.h"

namespace quell::train {

extern const TorchOp k_scale;
const TorchOp k_scale = {&op_scale, [](TorchCall& call) -> torch::Tensor {
                           return call.in(0) * call.attributes<Factor>().f64();
                         }};

}  // namespace quell::train
