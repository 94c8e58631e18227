// T5's bias of the scores: [heads * N, N] from a table [buckets, heads] (Raffel et al. 2020).
#include "quell/graph/ops.h"
#include "quell/graph/relative_positions.h"

namespace quell {
namespace {

ValueType infer(const Graph&, const Node& node) {
  return {{RowSpace::Kind::kScores, node.place.stack}, 0, false};
}

Tensor reference(OpCall& call) {
  return relative_bias_table(call.attributes<RelativeBiasAttributes>(), call.weight(),
                             call.tokens().length);
}

}  // namespace

const OpDef op_relative_bias = {.name = "relative_bias", .infer = infer, .reference = reference};

}  // namespace quell
