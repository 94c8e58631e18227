#include "quell/graph/image_ops.h"

#include "quell/base/error.h"
#include "quell/graph/ops.h"

namespace quell {

ImageSize image_size(const RowSpace& rows, std::string_view who) {
  require(rows.kind == RowSpace::Kind::kImage, ErrorCode::kUnsupported, who,
          ": needs pixels of images, and its operand has other rows");
  return {rows.height, rows.width};
}

ValueType with_image(const Graph& graph, const Node& node, ImageSize size) {
  constexpr std::int64_t kMaxSide = std::int64_t{1} << 20;
  ValueType type = like_operand(graph, node);
  const ImageSize from = image_size(type.rows, node.label);
  require(size.height > 0 && size.width > 0, ErrorCode::kUnsupported, node.label,
          ": nothing is left of an image of ", from.height, " x ", from.width);
  require(size.height <= kMaxSide && size.width <= kMaxSide, ErrorCode::kUnsupported, node.label,
          ": makes images of ", size.height, " x ", size.width, ", which is too large");
  type.rows.height = size.height;
  type.rows.width = size.width;
  return type;
}

bool is_convolutional(const Graph& graph) {
  // Not by its convolutions: some networks have none but transposed ones, or linears alone.
  return graph.has(op_image) && !graph.has(op_attention);
}

std::int64_t num_images(OpCall& call, std::size_t operand) {
  const RowSpace rows = call.rows(operand);
  return call.in(operand).rows() / (rows.height * rows.width);
}

ConvGeometry conv_geometry(const Node& node, const RowSpace& rows) {
  const auto& conv = node.attributes.get<ConvAttributes>();
  const ImageSize image = image_size(rows, node.label);
  ConvGeometry geometry;
  geometry.window = conv.window;
  geometry.transposed = node.is(op_conv_transpose2d);
  geometry.groups = conv.groups;
  geometry.padding.assign(conv.padding_value.begin(), conv.padding_value.end());
  if (geometry.transposed)
    geometry.taps =
        make_transposed_taps(image, conv.window, image_under(image, conv.window, conv.more));
  else
    geometry.taps = make_taps(image, conv.window, windows_over(image, conv.window));
  return geometry;
}

std::shared_ptr<const ConvGeometry> conv_geometry(const Graph& graph, NodeId n) {
  const Node& node = graph.node(n);
  if (!node.is(op_conv2d) && !node.is(op_conv_transpose2d)) return nullptr;
  const RowSpace& rows = graph.value(node.in[kLinearInput]).type.rows;
  return std::make_shared<const ConvGeometry>(conv_geometry(node, rows));
}

ColumnChannels column_channels(const Node& product, const TensorView& weight) {
  if (product.is(op_linear)) return {weight.cols(), weight.rows()};
  const auto& conv = product.attributes.get<ConvAttributes>();
  return {weight.cols() / conv.window.taps(), weight.rows() / conv.groups};
}

void scale_columns(const ColumnChannels& channels, std::span<const float> scale,
                   TensorSpan weight) {
  for (std::int64_t j = 0; j < weight.rows(); ++j)
    for (std::int64_t k = 0; k < weight.cols(); ++k)
      weight.row(j)[k] *= scale[static_cast<std::size_t>(channels.of(j, k))];
}

Packing conv_packing(const Window& window, bool transposed) {
  return {.transposed = transposed,
          .kernel_height = window.kernel_height,
          .kernel_width = window.kernel_width};
}

}  // namespace quell
