// cap * tanh(x / cap), of logits (Gemma 2).
#include <cmath>

#include "quell/graph/ops.h"

namespace quell {
namespace {

Tensor reference(OpCall& call) {
  const TensorView x = call.in(0);
  const auto cap = static_cast<float>(call.attributes<double>());
  Tensor out = Tensor::f32(x.shape());
  const std::span<const float> from = x.f32();
  const std::span<float> to = out.f32();
  for (std::size_t i = 0; i < from.size(); ++i) to[i] = cap * std::tanh(from[i] / cap);
  return out;
}

}  // namespace

const OpDef op_soft_cap = {.name = "soft_cap",
                           .infer = like_operand,
                           .channels = {.kind = ChannelKind::kEach},
                           .reference = reference,
                           .row_by_row = true};

}  // namespace quell
