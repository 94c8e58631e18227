// Rows of a table by ids (of tokens, token types or positions).
#include "quell/base/error.h"
#include "quell/graph/ops.h"

namespace quell {
namespace {

ValueType infer(const Graph& graph, const Node& node) {
  require(node.operand(1) != kNoValue, ErrorCode::kUnsupported, node.label,
          ": needs a table to look up");
  return with_columns(graph, node, graph.value(node.in[1]).type.columns);
}

Tensor reference(OpCall& call) {
  const TensorView ids = call.in(0);
  return call.look_up(ids.as<std::int32_t>(), call.attributes<EmbeddingAttributes>().what);
}

}  // namespace

const OpDef op_embedding = {.name = "embedding",
                            .infer = infer,
                            .channels = {.kind = ChannelKind::kTable},
                            .reference = reference,
                            .row_by_row = true};

}  // namespace quell
