// A value around an image, and in channels in front and behind.
#include <algorithm>

#include "quell/base/error.h"
#include "quell/graph/image_ops.h"

namespace quell {
namespace {

ImageSize padded(ImageSize image, const ImagePadding& p) {
  return {image.height + p.top + p.bottom, image.width + p.left + p.right};
}

ValueType infer(const Graph& graph, const Node& node) {
  const auto& pad = node.attributes.get<PadAttributes>();
  const ImageSize image = image_size(graph.value(node.operand(0)).type.rows, node.label);
  const ImagePadding& p = pad.padding;
  require(
      std::min({p.top, p.bottom, p.left, p.right, pad.channels_before, pad.channels_behind}) >= 0,
      ErrorCode::kUnsupported, node.label, ": a padding below 0");

  ValueType type = with_image(graph, node, padded(image, p));
  type.columns += pad.channels_before + pad.channels_behind;
  return type;
}

Tensor reference(OpCall& call) {
  const auto& pad = call.attributes<PadAttributes>();
  const TensorView x = call.in(0);
  const ImageSize image = image_size(call.rows(0), call.node().label);
  const ImageSize size = padded(image, pad.padding);
  const std::int64_t columns = pad.channels_before + x.cols() + pad.channels_behind;

  Tensor out = Tensor::uninitialized(DType::kF32, {num_images(call, 0) * size.pixels(), columns});
  const auto value = static_cast<float>(pad.value);
  call.ctx().pool.parallel_for(out.rows(), 256, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      const std::int64_t row = r % size.pixels() / size.width - pad.padding.top;
      const std::int64_t column = r % size.width - pad.padding.left;
      const bool inside = row >= 0 && row < image.height && column >= 0 && column < image.width;
      std::fill_n(out.row(r), columns, value);
      if (!inside) continue;
      const std::int64_t from = r / size.pixels() * image.pixels() + row * image.width + column;
      std::copy_n(x.row(from), x.cols(), out.row(r) + pad.channels_before);
    }
  });
  return out;
}

}  // namespace

const OpDef op_pad = {.name = "pad", .infer = infer, .reference = reference};

}  // namespace quell
