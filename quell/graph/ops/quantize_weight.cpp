// A quantizer of a matrix. Its codes are constant: the model keeps them (Param::quantized), and
// engines multiply with them or look them up.
#include "quell/graph/ops.h"
#include "quell/quant/quantize.h"

namespace quell {

const WeightQuantAttributes& weight_quantizer_of(const Node& node) {
  return node.attributes.get<WeightQuantAttributes>();
}

namespace {

Tensor reference(OpCall& call) {
  const WeightQuantAttributes& quantizer = weight_quantizer_of(call.node());
  return dequantize(quantize_weight(Tensor::copy_of(call.in(0)), quantizer.spec));
}

}  // namespace

const OpDef op_quantize_weight = {.name = "quantize_weight",
                                  .infer = like_operand,
                                  .reference = reference,
                                  .row_by_row = true,
                                  .view = true};

}  // namespace quell
