// Batch norm as it is after training: an affine by channel, made of running statistics.
#include "quell/graph/batch_norm.h"

#include <cmath>

#include "quell/base/error.h"
#include "quell/graph/image_ops.h"
#include "quell/ops/elementwise.h"

namespace quell {

ChannelAffine batch_norm_affine(const BatchNormTensors& norm, double eps) {
  const std::size_t channels = norm.mean.f32().size();
  ChannelAffine affine{Tensor::f32(norm.mean.shape()), Tensor::f32(norm.mean.shape())};
  for (std::size_t c = 0; c < channels; ++c) {
    const auto at = [c](const TensorView& v) { return static_cast<double>(v.f32()[c]); };
    const double weight = norm.weight.numel() > 0 ? at(norm.weight) : 1;
    const double bias = norm.bias.numel() > 0 ? at(norm.bias) : 0;
    const double scale = weight / std::sqrt(at(norm.variance) + eps);
    affine.scale.f32()[c] = static_cast<float>(scale);
    affine.shift.f32()[c] = static_cast<float>(bias - at(norm.mean) * scale);
  }
  return affine;
}

namespace {

ValueType infer(const Graph& graph, const Node& node) {
  const ParamDef& p = graph.param(node.param);
  const std::int64_t columns = graph.value(node.operand(0)).type.columns;
  require(p.shape == Shape{columns} && p.vectors.size() == 2, ErrorCode::kUnsupported, p.module,
          ": a batch norm of shape ", p.shape.to_string(), " for ", columns, " channels");
  return like_operand(graph, node);
}

Tensor reference(OpCall& call) {
  const TensorView x = call.in(0);
  const BatchNormTensors norm{call.weight(), call.bias(), call.vector(kRunningMean),
                              call.vector(kRunningVariance)};
  const ChannelAffine affine = batch_norm_affine(norm, call.attributes<double>());

  Tensor out = Tensor::uninitialized(DType::kF32, x.shape());
  affine_columns(x, affine.scale, affine.shift, out.span(), call.ctx());
  return out;
}

}  // namespace

const OpDef op_batch_norm = {.name = "batch_norm",
                             .infer = infer,
                             .channels = {.kind = ChannelKind::kVector},
                             .reference = reference,
                             .row_by_row = true};

}  // namespace quell
