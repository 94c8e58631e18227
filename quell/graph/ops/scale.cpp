// Times one number.
#include "quell/graph/ops.h"

namespace quell {
namespace {

Tensor scaled(const TensorView& x, float factor) {
  Tensor out = Tensor::f32(x.shape());
  const std::span<const float> from = x.f32();
  const std::span<float> to = out.f32();
  for (std::size_t i = 0; i < from.size(); ++i) to[i] = from[i] * factor;
  return out;
}

Tensor reference(OpCall& call) { return scaled(call.in(0), call.attributes<Factor>().f32()); }

void gradient(GradientCall& call) {
  call.add(0, scaled(call.gradient(), call.attributes<Factor>().f32()));
}

ChannelPass pass(const Node&) { return {.change = ChannelChange::kScale}; }

}  // namespace

const OpDef op_scale = {.name = "scale",
                        .infer = like_operand,
                        .channels = {.kind = ChannelKind::kEach, .pass = pass},
                        .reference = reference,
                        .gradient = gradient,
                        .row_by_row = true};

}  // namespace quell
