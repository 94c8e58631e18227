// The sum of two values: residual branches, embeddings.
#include "quell/graph/ops.h"

namespace quell {
namespace {

Tensor reference(OpCall& call) {
  const TensorView a = call.in(0);
  const TensorView b = call.in(1);
  Tensor out = Tensor::f32(a.shape());
  add(a, b, out.span(), call.ctx());
  return out;
}

void gradient(GradientCall& call) {
  Tensor g = call.take_gradient();
  call.add(0, g.clone());
  call.add(1, std::move(g));
}

}  // namespace

const OpDef op_add = {.name = "add",
                      .infer = like_operand,
                      .reference = reference,
                      .gradient = gradient,
                      .row_by_row = true};

}  // namespace quell
