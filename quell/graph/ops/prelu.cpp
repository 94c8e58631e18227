// Values below 0 times a learned slope, of each channel or one for all (He et al. 2015).
#include "quell/base/error.h"
#include "quell/graph/image_ops.h"

namespace quell {
namespace {

ValueType infer(const Graph& graph, const Node& node) {
  const ParamDef& p = graph.param(node.param);
  const std::int64_t columns = graph.value(node.operand(0)).type.columns;
  require(p.shape == Shape{columns} || p.shape == Shape{1}, ErrorCode::kUnsupported, p.module,
          ": slopes of shape ", p.shape.to_string(), " for ", columns, " channels");
  return like_operand(graph, node);
}

float slope_of(const TensorView& slopes, std::int64_t channel) {
  return slopes.f32()[slopes.numel() == 1 ? 0 : static_cast<std::size_t>(channel)];
}

Tensor reference(OpCall& call) {
  const TensorView x = call.in(0);
  const TensorView slopes = call.weight();
  Tensor out = Tensor::uninitialized(DType::kF32, x.shape());
  call.ctx().pool.parallel_for(x.rows(), 256, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r)
      for (std::int64_t c = 0; c < x.cols(); ++c) {
        const float v = x.row(r)[c];
        out.row(r)[c] = v > 0 ? v : v * slope_of(slopes, c);
      }
  });
  return out;
}

void gradient(GradientCall& call) {
  const TensorView x = call.in(0);
  const TensorView slopes = call.weight();
  Tensor g = call.take_gradient();
  for (std::int64_t r = 0; r < x.rows(); ++r)
    for (std::int64_t c = 0; c < x.cols(); ++c)
      if (x.row(r)[c] <= 0) g.row(r)[c] *= slope_of(slopes, c);
  call.add(0, std::move(g));
}

}  // namespace

const OpDef op_prelu = {.name = "prelu",
                        .infer = infer,
                        .reference = reference,
                        .gradient = gradient,
                        .row_by_row = true};

}  // namespace quell
