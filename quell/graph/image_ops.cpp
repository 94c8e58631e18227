#include "quell/graph/image_ops.h"

#include "quell/base/error.h"

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

std::int64_t num_images(OpCall& call, std::size_t operand) {
  const RowSpace rows = call.rows(operand);
  return call.in(operand).rows() / (rows.height * rows.width);
}

Packing conv_packing(const Window& window, bool transposed) {
  return {.transposed = transposed,
          .kernel_height = window.kernel_height,
          .kernel_width = window.kernel_width};
}

}  // namespace quell
