// A quantizer of a matrix: whatever training has put in its place.
#include "quell/train/torch_op.h"

namespace quell::train {

extern const TorchOp k_quantize_weight;
const TorchOp k_quantize_weight = {
    &op_quantize_weight, [](TorchCall& call) -> torch::Tensor { return call.quantized(); }};

}  // namespace quell::train
