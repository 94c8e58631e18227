// A transposed convolution: each pixel of the operand adds a window to the output.
#include "quell/base/error.h"
#include "quell/graph/image_ops.h"
#include "quell/graph/ops.h"
#include "quell/ops/convolution.h"

namespace quell {
namespace {

ValueType infer(const Graph& graph, const Node& node) {
  require(node.operand(kLinearWeight) != kNoValue, ErrorCode::kUnsupported, node.label,
          ": needs a weight");
  const auto& conv = node.attributes.get<ConvAttributes>();
  const ValueType& weight = graph.value(node.in[kLinearWeight]).type;
  const ValueType& x = graph.value(node.operand(kLinearInput)).type;
  const ImageSize image = image_size(x.rows, node.label);
  const std::string& module = graph.param(node.param).module;

  require(conv.groups == 1 && conv.padding_value.empty(), ErrorCode::kUnsupported, module,
          ": a transposed convolution has no groups and no values of padding here");
  require(weight.columns == conv.window.taps() * x.columns, ErrorCode::kUnsupported, module,
          ": a weight of ", weight.columns, " columns reads ", conv.window.taps(), " pixels of ",
          x.columns, " channels");

  ValueType type = with_image(graph, node, image_under(image, conv.window, conv.more));
  type.columns = weight.rows.rows;
  return type;
}

/// Seen from the output: a convolution over an image with holes, which taps skip.
Tensor reference(OpCall& call) {
  const ConvGeometry geometry = conv_geometry(call.node(), call.rows(kLinearInput));
  const std::int64_t rows = num_images(call, kLinearInput) * geometry.taps.out.pixels();
  Tensor out = Tensor::uninitialized(DType::kF32, {rows, call.weight().rows()});
  convolve(call.in(kLinearInput), geometry, call.weight(), call.bias(), out.span(), call.ctx());
  return out;
}

/// As of a convolution, whose taps skip holes.
ChannelPass columns(const Node&) { return {.change = ChannelChange::kScale}; }

}  // namespace

const OpDef op_conv_transpose2d = {.name = "conv_transpose2d",
                                   .infer = infer,
                                   .channels = {.kind = ChannelKind::kMatrix, .pass = columns},
                                   .reference = reference,
                                   .product = true};

}  // namespace quell
