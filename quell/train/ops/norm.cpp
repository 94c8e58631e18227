// Layer norm and RMS norm over the columns.
#include "quell/train/ops/normalized.h"

namespace quell::train {

extern const TorchOp k_norm;
const TorchOp k_norm = {&op_norm, [](TorchCall& call) -> torch::Tensor {
                          return normalized(norm_of(call.node()), call.in(0), call.weight(),
                                            call.bias());
                        }};

}  // namespace quell::train
