// The rows of a table as the tokens of each sequence of a decoder (DETR's object queries).
#include <algorithm>

#include "quell/base/error.h"
#include "quell/graph/image_ops.h"

namespace quell {
namespace {

ValueType infer(const Graph& graph, const Node& node) {
  const ParamDef& p = graph.param(node.param);
  require(p.shape.rank() == 2, ErrorCode::kUnsupported, p.module, ": queries must be a matrix");
  return {{RowSpace::Kind::kTokens, node.place.stack}, p.shape[1], false};
}

Tensor reference(OpCall& call) {
  const TensorView queries = call.weight();
  const TokenBatch& batch = call.tokens();
  require(batch.length == queries.rows(), ErrorCode::kInvalidInput, call.node().label, ": ",
          queries.rows(), " queries for ", batch.length, " tokens");

  Tensor out = Tensor::uninitialized(DType::kF32, {batch.rows(), queries.cols()});
  for (std::int64_t b = 0; b < batch.batch; ++b)
    std::copy_n(queries.f32().data(), queries.numel(), out.row(b * batch.length));
  return out;
}

}  // namespace

const OpDef op_learned_queries = {
    .name = "learned_queries", .infer = infer, .reference = reference};

}  // namespace quell
