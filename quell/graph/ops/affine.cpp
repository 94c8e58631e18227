// What migration leaves in the graph: (x - shift) / scale by channel where no producer could absorb
// it (op_affine), and x * scale + shift for readers that want the original meaning (op_restore).
#include "quell/graph/ops.h"

namespace quell {

const ChannelAffine& affine_of(const Node& node) { return node.attributes.get<ChannelAffine>(); }

namespace {

Tensor divide(OpCall& call) {
  const ChannelAffine& a = affine_of(call.node());
  Tensor out = Tensor::copy_of(call.in(0));
  inverse_affine_columns(out, a.scale, a.shift, out.span(), call.ctx());
  return out;
}

void divide_gradient(GradientCall& call) {
  Tensor g = call.take_gradient();
  inverse_affine_columns(g, affine_of(call.node()).scale, TensorView(), g.span(), call.ctx());
  call.add(0, std::move(g));
}

Tensor restore(OpCall& call) {
  const ChannelAffine& a = affine_of(call.node());
  Tensor out = Tensor::copy_of(call.in(0));
  affine_columns(out, a.scale, a.shift, out.span(), call.ctx());
  return out;
}

void restore_gradient(GradientCall& call) {
  Tensor g = call.take_gradient();
  affine_columns(g, affine_of(call.node()).scale, TensorView(), g.span(), call.ctx());
  call.add(0, std::move(g));
}

}  // namespace

const OpDef op_affine = {.name = "affine",
                         .infer = like_operand,
                         .reference = divide,
                         .gradient = divide_gradient,
                         .row_by_row = true};

const OpDef op_restore = {.name = "restore",
                          .infer = like_operand,
                          .reference = restore,
                          .gradient = restore_gradient,
                          .row_by_row = true,
                          .view = true};

}  // namespace quell
