// The product of two values, element by element.
#include "quell/graph/ops.h"

namespace quell {
namespace {

Tensor reference(OpCall& call) {
  const TensorView a = call.in(0);
  const TensorView b = call.in(1);
  Tensor out = Tensor::f32(a.shape());
  multiply(a, b, out.span(), call.ctx());
  return out;
}

void gradient(GradientCall& call) {
  const TensorView a = call.in(0);
  const TensorView b = call.in(1);
  Tensor g = call.take_gradient();

  Tensor by_a = Tensor::f32(g.shape());
  multiply(g, b, by_a.span(), call.ctx());
  call.add(0, std::move(by_a));

  multiply(g, a, g.span(), call.ctx());
  call.add(1, std::move(g));
}

}  // namespace

const OpDef op_multiply = {.name = "multiply",
                           .infer = like_operand,
                           .channels = {.kind = ChannelKind::kProduct},
                           .reference = reference,
                           .gradient = gradient,
                           .row_by_row = true};

}  // namespace quell
