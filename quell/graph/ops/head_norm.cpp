// A norm over each head's columns, in front of the rotation (Qwen 3).
#include "quell/graph/attention_call.h"
#include "quell/graph/norm_gradient.h"
#include "quell/graph/ops.h"

namespace quell {
namespace {

Tensor reference(OpCall& call) {
  const NormAttributes& norm = norm_of(call.node());
  Tensor out = Tensor::copy_of(call.in(0));
  normalize_heads(norm.kind, call.weight(), call.bias(), norm.eps, out, call.ctx());
  return out;
}

void gradient(GradientCall& call) {
  const TensorView x = call.in(0);
  const std::int64_t head_dim = call.weight().numel();
  const Shape whole = x.shape();
  const Shape by_head = {x.numel() / head_dim, head_dim};

  Tensor g = call.take_gradient();
  g.reshape(by_head);
  norm_backward(norm_of(call.node()), TensorView(x.raw(), x.dtype(), by_head), call.weight(), g,
                call.ctx());
  g.reshape(whole);
  call.add(0, std::move(g));
}

}  // namespace

const OpDef op_head_norm = {.name = "head_norm",
                            .infer = like_operand,
                            .reference = reference,
                            .gradient = gradient,
                            .row_by_row = true};

}  // namespace quell
