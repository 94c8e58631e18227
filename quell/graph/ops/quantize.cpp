// A quantizer of activations: codes and back, in f32. Engines round as they say; linears take it
// along.
#include "quell/quant/quantize.h"
#include "quell/graph/ops.h"

namespace quell {

const ActivationQuant& quantizer_of(const Node& node) {
  return node.attributes.get<ActivationQuant>();
}

namespace {

Tensor reference(OpCall& call) {
  Tensor out = Tensor::copy_of(call.in(0));
  fake_quantize_activations(out, quantizer_of(call.node()), Rounding::kDivide, out.span(),
                            call.ctx());
  return out;
}

}  // namespace

const OpDef op_quantize = {.name = "quantize",
                           .infer = like_operand,
                           .reference = reference,
                           .row_by_row = true,
                           .view = true};

}  // namespace quell
