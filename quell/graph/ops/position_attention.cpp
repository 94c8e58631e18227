// Attention of pixels to all pixels of their image (Fu et al. 2019): x + gamma * softmax(q k^T) v,
// scores unscaled.
#include <algorithm>
#include <cmath>

#include "quell/base/error.h"
#include "quell/graph/image_attention.h"
#include "quell/graph/image_ops.h"
#include "quell/ops/linear.h"

namespace quell {
namespace {

ValueType infer(const Graph& graph, const Node& node) {
  const auto type = [&](std::size_t i) { return graph.value(node.operand(i)).type; };
  const ValueType x = type(kAttendedImage);
  image_size(x.rows, node.label);
  const bool fits = type(kPositionQuery).rows == x.rows && type(kPositionKey).rows == x.rows &&
                    type(kPositionValue).rows == x.rows &&
                    type(kPositionQuery).columns == type(kPositionKey).columns &&
                    type(kPositionValue).columns == x.columns;
  require(fits, ErrorCode::kUnsupported, node.label,
          ": queries, keys and values do not fit the image");
  require(graph.param(node.param).shape == Shape{1}, ErrorCode::kUnsupported, node.label,
          ": gamma must be one number");
  return like_operand(graph, node);
}

/// Scores of so many pixels are there at a time.
constexpr std::int64_t kBlock = 256;

void attend(OpCall& call, std::int64_t first, std::int64_t pixels, Tensor& out) {
  const TensorView x = call.in(kAttendedImage);
  const TensorView key = rows_at(call.in(kPositionKey), first, pixels);
  const Tensor values = transposed(rows_at(call.in(kPositionValue), first, pixels));
  const float gamma = call.weight().f32()[0];

  for (std::int64_t at = first; at < first + pixels; at += kBlock) {
    const std::int64_t rows = std::min(kBlock, first + pixels - at);
    Tensor scores = Tensor::uninitialized(DType::kF32, {rows, pixels});
    matmul_nt(rows_at(call.in(kPositionQuery), at, rows), key, {}, scores.span(), call.ctx());
    softmax_rows(scores, call.ctx());

    Tensor context = Tensor::uninitialized(DType::kF32, {rows, x.cols()});
    matmul_nt(scores, values, {}, context.span(), call.ctx());
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int64_t c = 0; c < x.cols(); ++c)
        out.row(at + r)[c] = gamma * context.row(r)[c] + x.row(at + r)[c];
  }
}

Tensor reference(OpCall& call) {
  const std::int64_t pixels = image_size(call.rows(0), call.node().label).pixels();
  Tensor out = Tensor::uninitialized(DType::kF32, call.in(kAttendedImage).shape());
  for (std::int64_t first = 0; first < out.rows(); first += pixels)
    attend(call, first, pixels, out);
  return out;
}

}  // namespace

const OpDef op_position_attention = {
    .name = "position_attention", .infer = infer, .reference = reference};

}  // namespace quell
