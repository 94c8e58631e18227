// Attention of channels to channels over all pixels of their image (Fu et al. 2019): with E = X
// X^T, X [channels, pixels], x + gamma * softmax(rowmax(E) - E) X.
#include <algorithm>

#include "quell/base/error.h"
#include "quell/graph/image_attention.h"
#include "quell/graph/image_ops.h"
#include "quell/ops/linear.h"

namespace quell {
namespace {

ValueType infer(const Graph& graph, const Node& node) {
  const ValueType type = like_operand(graph, node);
  image_size(type.rows, node.label);
  require(graph.param(node.param).shape == Shape{1}, ErrorCode::kUnsupported, node.label,
          ": gamma must be one number");
  return type;
}

Tensor reference(OpCall& call) {
  const TensorView x = call.in(0);
  const std::int64_t pixels = image_size(call.rows(0), call.node().label).pixels();
  const std::int64_t channels = x.cols();
  const float gamma = call.weight().f32()[0];

  Tensor out = Tensor::uninitialized(DType::kF32, x.shape());
  for (std::int64_t first = 0; first < x.rows(); first += pixels) {
    const TensorView image = rows_at(x, first, pixels);
    const Tensor by_channel = transposed(image);
    Tensor map = Tensor::uninitialized(DType::kF32, {channels, channels});
    matmul_nt(by_channel, by_channel, {}, map.span(), call.ctx());
    for (std::int64_t c = 0; c < channels; ++c) {
      const float largest = *std::max_element(map.row(c), map.row(c) + channels);
      for (std::int64_t k = 0; k < channels; ++k) map.row(c)[k] = largest - map.row(c)[k];
    }
    softmax_rows(map, call.ctx());

    TensorSpan part(out.row(first), DType::kF32, {pixels, channels});
    matmul_nt(image, map, {}, part, call.ctx());
    for (std::int64_t p = 0; p < pixels; ++p)
      for (std::int64_t c = 0; c < channels; ++c)
        part.row(p)[c] = gamma * part.row(p)[c] + image.row(p)[c];
  }
  return out;
}

}  // namespace

const OpDef op_channel_attention = {
    .name = "channel_attention", .infer = infer, .reference = reference};

}  // namespace quell
