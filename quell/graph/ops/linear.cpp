// y = x weight^T + bias.
#include "quell/ops/linear.h"
#include "quell/base/error.h"
#include "quell/graph/ops.h"

namespace quell {
namespace {

ValueType infer(const Graph& graph, const Node& node) {
  require(node.operand(kLinearWeight) != kNoValue, ErrorCode::kUnsupported, node.label,
          ": needs a matrix to multiply with");
  const ValueType& weight = graph.value(node.in[kLinearWeight]).type;
  const std::int64_t columns = graph.value(node.operand(kLinearInput)).type.columns;
  require(weight.columns == columns, ErrorCode::kUnsupported, graph.param(node.param).module,
          ": a weight of shape [", weight.rows.rows, ", ", weight.columns, "] reads ", columns,
          " columns");
  return with_columns(graph, node, weight.rows.rows);
}

Tensor reference(OpCall& call) {
  const TensorView x = call.in(0);
  Tensor out = Tensor::f32({x.rows(), call.weight().rows()});
  matmul_nt(x, call.weight(), call.bias(), out.span(), call.ctx());
  return out;
}

/// Of the operand alone: nobody asks for gradients of weights here.
void gradient(GradientCall& call) {
  const Tensor& g = call.gradient();
  const Tensor weight = transposed(call.weight());
  Tensor out = Tensor::uninitialized(DType::kF32, {g.rows(), weight.rows()});
  matmul_nt(g, weight, TensorView(), out.span(), call.ctx());
  call.add(0, std::move(out));
}

}  // namespace

const OpDef op_linear = {.name = "linear",
                         .infer = infer,
                         .channels = {.kind = ChannelKind::kMatrix},
                         .reference = reference,
                         .gradient = gradient,
                         .row_by_row = true,
                         .product = true};

}  // namespace quell
