// T5's bias of the scores: [heads * N, N] from a table [buckets, heads].
#include "quell/graph/relative_positions.h"
#include "quell/train/torch_op.h"

namespace quell::train {

extern const TorchOp k_relative_bias;
const TorchOp k_relative_bias = {&op_relative_bias, [](TorchCall& call) -> torch::Tensor {
                                   const auto& spec = call.attributes<RelativeBiasAttributes>();
                                   const std::int64_t length = call.tokens().length;
                                   std::vector<std::int64_t> rows;
                                   for (std::int64_t i = 0; i < length; ++i)
                                     for (std::int64_t j = 0; j < length; ++j)
                                       rows.push_back(relative_bias_row(spec, j - i));

                                   const torch::Tensor biases =
                                       call.weight().index_select(0, torch::tensor(rows));
                                   return biases.t().reshape({-1, length});
                                 }};

}  // namespace quell::train
