// Pixels of images as tokens: the same rows, in the same order.
#include "quell/base/error.h"
#include "quell/graph/image_ops.h"
#include "quell/train/torch_op.h"

namespace quell::train {

extern const TorchOp k_pixel_tokens;
const TorchOp k_pixel_tokens = {&op_pixel_tokens, [](TorchCall& call) -> torch::Tensor {
                                  const torch::Tensor x = call.in(0);
                                  const std::int64_t rows = call.tokens().rows();
                                  require(x.size(0) == rows, ErrorCode::kInvalidInput,
                                          call.node().label, ": ", x.size(0), " pixels for ", rows,
                                          " tokens");
                                  return x;
                                }};

}  // namespace quell::train
