// The mean of each channel over all pixels of an image: one row an image.
#include "quell/train/ops/planes.h"

namespace quell::train {

extern const TorchOp k_global_mean;
const TorchOp k_global_mean = {&op_global_mean, [](TorchCall& call) -> torch::Tensor {
                                 return planes_of(call, 0).mean({2, 3});
                               }};

}  // namespace quell::train
