// An activation function, element by element.
#include "quell/graph/ops.h"

namespace quell {

ActivationKind activation_of(const Node& node) { return node.attributes.get<ActivationKind>(); }

namespace {

Tensor reference(OpCall& call) {
  const TensorView x = call.in(0);
  Tensor out = Tensor::f32(x.shape());
  activate(activation_of(call.node()), x, out.span(), call.ctx());
  return out;
}

void gradient(GradientCall& call) {
  const TensorView x = call.in(0);
  const ActivationKind kind = activation_of(call.node());
  Tensor g = call.take_gradient();
  call.ctx().pool.parallel_for(x.rows(), 16, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i)
      for (std::int64_t j = 0; j < x.cols(); ++j) {
        const auto at = static_cast<double>(x.row(i)[j]);
        g.row(i)[j] *= static_cast<float>(activation_derivative(kind, at));
      }
  });
  call.add(0, std::move(g));
}

/// relu(x / s) = relu(x) / s; a ReLU6 becomes a clamp whose bounds are scaled along (scale_bounds).
ChannelPass pass(const Node& node) {
  const ActivationKind kind = activation_of(node);
  if (kind != ActivationKind::kRelu && kind != ActivationKind::kRelu6) return {};
  return {.change = ChannelChange::kScale};
}

}  // namespace

const OpDef op_activation = {.name = "activation",
                             .infer = like_operand,
                             .channels = {.kind = ChannelKind::kEach, .pass = pass},
                             .reference = reference,
                             .gradient = gradient,
                             .row_by_row = true};

}  // namespace quell
