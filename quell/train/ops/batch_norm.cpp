// Batch norm by its running statistics, which training leaves as they are.
#include "quell/graph/batch_norm.h"
#include "quell/graph/image_ops.h"
#include "quell/train/torch_op.h"

namespace quell::train {

extern const TorchOp k_batch_norm;
const TorchOp k_batch_norm = {&op_batch_norm, [](TorchCall& call) -> torch::Tensor {
                                const double eps = call.attributes<double>();
                                torch::Tensor x = call.in(0) - call.vector(kRunningMean);
                                x = x * torch::rsqrt(call.vector(kRunningVariance) + eps);
                                if (call.weight().defined()) x = x * call.weight();
                                return call.bias().defined() ? x + call.bias() : x;
                              }};

}  // namespace quell::train
