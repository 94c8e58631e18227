// A learned row in front of the rows of each sequence (the class token of ViT).
#include <algorithm>

#include "quell/graph/ops.h"

namespace quell {
namespace {

ValueType infer(const Graph& graph, const Node& node) {
  ValueType type = like_operand(graph, node);
  type.rows = {RowSpace::Kind::kTokens, node.place.stack};
  return type;
}

Tensor reference(OpCall& call) {
  const TensorView x = call.in(0);
  const std::span<const float> token = call.weight().f32();
  const TokenBatch& batch = call.tokens();
  const std::int64_t rest = batch.length - 1;

  Tensor out = Tensor::f32({batch.rows(), x.cols()});
  for (std::int64_t b = 0; b < batch.batch; ++b) {
    std::copy_n(token.data(), x.cols(), out.row(b * batch.length));
    std::copy_n(x.row(b * rest), x.cols() * rest, out.row(b * batch.length + 1));
  }
  return out;
}

}  // namespace

const OpDef op_prepend_token = {.name = "prepend_token", .infer = infer, .reference = reference};

}  // namespace quell
