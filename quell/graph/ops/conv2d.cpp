// A convolution over images: groups, dilation, strides, padding on each side.
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

  require(conv.groups > 0 && x.columns % conv.groups == 0 && weight.rows.rows % conv.groups == 0,
          ErrorCode::kUnsupported, module, ": ", conv.groups, " groups do not divide ", x.columns,
          " channels into ", weight.rows.rows);
  const std::int64_t seen = conv.window.taps() * x.columns / conv.groups;
  require(weight.columns == seen, ErrorCode::kUnsupported, module, ": a weight of ", weight.columns,
          " columns reads ", conv.window.taps(), " pixels of ", x.columns / conv.groups,
          " channels");
  const auto values = static_cast<std::int64_t>(conv.padding_value.size());
  require(values == 0 || values == x.columns, ErrorCode::kUnsupported, module, ": ", values,
          " values of padding for ", x.columns, " channels");

  ValueType type = with_image(graph, node, windows_over(image, conv.window));
  type.columns = weight.rows.rows;
  return type;
}

Tensor reference(OpCall& call) {
  const ConvGeometry geometry = conv_geometry(call.node(), call.rows(kLinearInput));
  const std::int64_t rows = num_images(call, kLinearInput) * geometry.taps.out.pixels();
  Tensor out = Tensor::uninitialized(DType::kF32, {rows, call.weight().rows()});
  convolve(call.in(kLinearInput), geometry, call.weight(), call.bias(), out.span(), call.ctx());
  return out;
}

/// Columns undo a scale. A shift would have to be undone by what lies around the image too.
ChannelPass columns(const Node& node) {
  const Window& window = node.attributes.get<ConvAttributes>().window;
  const bool has_padding = !(window.padding == ImagePadding{});
  return {.change = has_padding ? ChannelChange::kScale : ChannelChange::kScaleAndShift};
}

}  // namespace

const OpDef op_conv2d = {.name = "conv2d",
                         .infer = infer,
                         .channels = {.kind = ChannelKind::kMatrix, .pass = columns},
                         .reference = reference,
                         .product = true};

}  // namespace quell
