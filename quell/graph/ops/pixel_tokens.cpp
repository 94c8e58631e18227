// Pixels of images as tokens: the same rows, in the same order (DETR's transformers read them).
#include "quell/base/error.h"
#include "quell/graph/image_ops.h"

namespace quell {
namespace {

ValueType infer(const Graph& graph, const Node& node) {
  ValueType type = like_operand(graph, node);
  image_size(type.rows, node.label);
  type.rows = {RowSpace::Kind::kTokens, node.place.stack};
  return type;
}

Tensor reference(OpCall& call) {
  const TensorView x = call.in(0);
  const std::int64_t rows = call.tokens().rows();
  require(x.rows() == rows, ErrorCode::kInvalidInput, call.node().label, ": ", x.rows(),
          " pixels for ", rows, " tokens");
  return Tensor::copy_of(x);
}

ChannelPass pass(const Node&) { return {.change = ChannelChange::kScaleAndShift}; }

}  // namespace

const OpDef op_pixel_tokens = {.name = "pixel_tokens",
                               .infer = infer,
                               .channels = {.kind = ChannelKind::kEach, .pass = pass},
                               .reference = reference};

}  // namespace quell
