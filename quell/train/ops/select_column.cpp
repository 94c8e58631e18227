// One column of [T, C] as [T, 1].
#include "quell/train/torch_op.h"

namespace quell::train {

extern const TorchOp k_select_column;
const TorchOp k_select_column = {&op_select_column, [](TorchCall& call) -> torch::Tensor {
                                   return call.in(0).narrow(1, call.attributes<std::int64_t>(), 1);
                                 }};

}  // namespace quell::train
