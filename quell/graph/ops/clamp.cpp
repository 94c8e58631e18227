// Between 0 and a bound of each channel: what a ReLU6 becomes when its channels are scaled.
#include <algorithm>

#include "quell/base/error.h"
#include "quell/graph/image_ops.h"
#include "quell/graph/ops.h"

namespace quell {
namespace {

ValueType infer(const Graph& graph, const Node& node) {
  const auto& high = node.attributes.get<ClampAttributes>().high;
  const std::int64_t columns = graph.value(node.operand(0)).type.columns;
  require(static_cast<std::int64_t>(high.size()) == columns, ErrorCode::kUnsupported, node.label,
          ": ", high.size(), " bounds for ", columns, " channels");
  return like_operand(graph, node);
}

Tensor reference(OpCall& call) {
  const TensorView x = call.in(0);
  const std::vector<float>& high = call.attributes<ClampAttributes>().high;
  Tensor out = Tensor::uninitialized(DType::kF32, x.shape());
  call.ctx().pool.parallel_for(x.rows(), 64, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i)
      for (std::size_t c = 0; c < high.size(); ++c)
        out.row(i)[c] = std::min(std::max(x.row(i)[c], 0.0F), high[c]);
  });
  return out;
}

/// clamp(x / s, 0, h / s) = clamp(x, 0, h) / s, where the bounds change along.
ChannelPass pass(const Node&) { return {.change = ChannelChange::kScale}; }

}  // namespace

const OpDef op_clamp = {.name = "clamp",
                        .infer = infer,
                        .channels = {.kind = ChannelKind::kEach, .pass = pass},
                        .reference = reference,
                        .row_by_row = true};

void scale_bounds(Graph& graph, NodeId n, std::span<const float> scale) {
  Node by = graph.node(n);
  ClampAttributes bounds;
  if (by.is(op_clamp))
    bounds = by.attributes.get<ClampAttributes>();
  else if (by.is(op_activation) && activation_of(by) == ActivationKind::kRelu6)
    bounds.high.assign(scale.size(), 6.0F);
  else
    return;

  for (std::size_t c = 0; c < scale.size(); ++c) bounds.high[c] /= scale[c];
  by.op = &op_clamp;
  by.attributes = Attributes::of(std::move(bounds));
  graph.replace(n, std::move(by));
}

}  // namespace quell
