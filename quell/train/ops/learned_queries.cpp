// The rows of a table as the tokens of each sequence of a decoder (DETR's object queries).
#include "quell/graph/image_ops.h"
#include "quell/train/torch_op.h"

namespace quell::train {

extern const TorchOp k_learned_queries;
const TorchOp k_learned_queries = {&op_learned_queries, [](TorchCall& call) -> torch::Tensor {
                                     return call.weight().repeat({call.tokens().batch, 1});
                                   }};

}  // namespace quell::train
