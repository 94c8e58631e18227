// Pixels [batch, channels, height, width] as rows [batch * height * width, channels].
#include "quell/base/error.h"
#include "quell/graph/image_ops.h"

namespace quell {
namespace {

ValueType infer(const Graph&, const Node& node) {
  const auto& image = node.attributes.get<ImageAttributes>();
  RowSpace rows{RowSpace::Kind::kImage, node.place.stack};
  rows.height = image.size.height;
  rows.width = image.size.width;
  return {rows, image.channels, false};
}

Tensor reference(OpCall& call) {
  const auto& image = call.attributes<ImageAttributes>();
  const TensorView pixels = call.in(0);
  const std::int64_t batch = call.tokens().batch;
  const std::int64_t size = image.size.pixels();
  require(pixels.numel() == batch * image.channels * size, ErrorCode::kInvalidInput,
          "pixels: ", pixels.numel(), " values, expected ", batch, " images of ", image.channels,
          " x ", image.size.height, " x ", image.size.width);

  Tensor out = Tensor::uninitialized(DType::kF32, {batch * size, image.channels});
  const float* from = pixels.f32().data();
  call.ctx().pool.parallel_for(out.rows(), 4096, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r)
      for (std::int64_t c = 0; c < image.channels; ++c)
        out.row(r)[c] = from[(r / size * image.channels + c) * size + r % size];
  });
  return out;
}

}  // namespace

const OpDef op_image = {.name = "image", .infer = infer, .reference = reference};

}  // namespace quell
