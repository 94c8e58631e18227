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
  const auto& conv = call.attributes<ConvAttributes>();
  const ImageSize image = image_size(call.rows(kLinearInput), call.node().label);
  const ImageSize size = windows_over(image, conv.window);
  const TapTable taps = make_taps(image, conv.window, size);
  const std::vector<float> padding(conv.padding_value.begin(), conv.padding_value.end());

  const std::int64_t rows = num_images(call, kLinearInput) * size.pixels();
  Tensor out = Tensor::uninitialized(DType::kF32, {rows, call.weight().rows()});
  convolve(call.in(kLinearInput), taps, call.weight(), call.bias(), conv.groups, padding,
           out.span(), call.ctx());
  return out;
}

}  // namespace

const OpDef op_conv2d = {.name = "conv2d", .infer = infer, .reference = reference};

}  // namespace quell
