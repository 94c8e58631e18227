// Layer norm and RMS norm over the columns.
#include <cmath>

#include "quell/graph/norm_gradient.h"
#include "quell/graph/ops.h"

namespace quell {

const NormAttributes& norm_of(const Node& node) { return node.attributes.get<NormAttributes>(); }

NormAttributes first_norm(const Graph& graph) {
  for (const Node& node : graph.nodes())
    if (node.is(op_norm)) return norm_of(node);
  return {};
}

namespace {

Tensor reference(OpCall& call) {
  const TensorView x = call.in(0);
  const NormAttributes& norm = norm_of(call.node());
  Tensor out = Tensor::f32(x.shape());
  normalize(norm.kind, x, call.weight(), call.bias(), norm.eps, out.span(), call.ctx());
  return out;
}

void gradient(GradientCall& call) {
  Tensor g = call.take_gradient();
  norm_backward(norm_of(call.node()), call.in(0), call.weight(), g, call.ctx());
  call.add(0, std::move(g));
}

}  // namespace

const OpDef op_norm = {.name = "norm",
                       .infer = like_operand,
                       .channels = {.kind = ChannelKind::kVector},
                       .reference = reference,
                       .gradient = gradient,
                       .row_by_row = true};

}  // namespace quell
