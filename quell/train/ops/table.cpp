// All rows of a table.
#include "quell/train/torch_op.h"

namespace quell::train {

extern const TorchOp k_table;
const TorchOp k_table = {&op_table, [](TorchCall& call) -> torch::Tensor { return call.weight(); }};

}  // namespace quell::train
