// One column of [T, C] as [T, 1]: start and end scores of question answering.
#include "quell/graph/ops.h"

namespace quell {
namespace {

ValueType infer(const Graph& graph, const Node& node) { return with_columns(graph, node, 1); }

Tensor reference(OpCall& call) {
  const TensorView x = call.in(0);
  const auto column = call.attributes<std::int64_t>();
  Tensor out = Tensor::f32({x.rows(), 1});
  for (std::int64_t i = 0; i < x.rows(); ++i) out.row(i)[0] = x.row(i)[column];
  return out;
}

void gradient(GradientCall& call) {
  const auto column = call.attributes<std::int64_t>();
  const Tensor& g = call.gradient();
  Tensor out = Tensor::f32(call.in(0).shape());
  for (std::int64_t i = 0; i < g.rows(); ++i) out.row(i)[column] = g.row(i)[0];
  call.add(0, std::move(out));
}

}  // namespace

const OpDef op_select_column = {.name = "select_column",
                                .infer = infer,
                                .reference = reference,
                                .gradient = gradient,
                                .row_by_row = true};

}  // namespace quell
