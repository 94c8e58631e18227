// All rows of a table: relative embeddings, which every layer projects.
#include "quell/graph/ops.h"

namespace quell {
namespace {

ValueType infer(const Graph& graph, const Node& node) {
  ValueType type = like_operand(graph, node);
  type.rows.stack = node.place.stack;
  return type;
}

Tensor reference(OpCall& call) { return call.weight().clone(); }

}  // namespace

const OpDef op_table = {
    .name = "table", .infer = infer, .reference = reference, .row_by_row = true};

}  // namespace quell
