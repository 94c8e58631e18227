// 0 at padding (DeBERTa's embeddings).
#include <algorithm>

#include "quell/graph/ops.h"

namespace quell {
namespace {

Tensor reference(OpCall& call) {
  const TensorView x = call.in(0);
  const TokenBatch& batch = call.tokens();
  Tensor out = Tensor::f32(x.shape());
  for (std::int64_t i = 0; i < x.rows(); ++i) {
    const auto kept = static_cast<float>(batch.mask[static_cast<std::size_t>(i)]);
    for (std::int64_t j = 0; j < x.cols(); ++j) out.row(i)[j] = x.row(i)[j] * kept;
  }
  return out;
}

void gradient(GradientCall& call) {
  const TokenBatch& batch = call.tokens();
  Tensor g = call.take_gradient();
  for (std::int64_t i = 0; i < g.rows(); ++i)
    if (batch.mask[static_cast<std::size_t>(i)] == 0) std::fill_n(g.row(i), g.cols(), 0.0F);
  call.add(0, std::move(g));
}

ChannelPass pass(const Node&) { return {.change = ChannelChange::kScale}; }

}  // namespace

const OpDef op_mask_rows = {.name = "mask_rows",
                            .infer = like_operand,
                            .channels = {.kind = ChannelKind::kEach, .pass = pass},
                            .reference = reference,
                            .gradient = gradient,
                            .row_by_row = true};

}  // namespace quell
