// A quantizer of activations: whatever training has put in its place.
#include "quell/train/torch_op.h"

namespace quell::train {

extern const TorchOp k_quantize;
const TorchOp k_quantize = {&op_quantize,
                            [](TorchCall& call) -> torch::Tensor { return call.quantized(); }};

}  // namespace quell::train
