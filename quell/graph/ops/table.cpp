// All rows of a table: relative embeddings, which every layer projects.
#include "quell/graph/ops.h"

namespace quell {
namespace {

ValueType infer(const Graph& graph, const Node& node) {
  const Shape& shape = graph.param(node.param).shape;
  return {{RowSpace::Kind::kTable, node.place.stack, shape[0]}, shape[1], true};
}

Tensor reference(OpCall& call) { return call.weight().clone(); }

}  // namespace

const OpDef op_table = {
    .name = "table", .infer = infer, .reference = reference, .row_by_row = true};

}  // namespace quell
