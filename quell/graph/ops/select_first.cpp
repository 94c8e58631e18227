// The first token of each sequence.
#include <algorithm>

#include "quell/graph/ops.h"

namespace quell {
namespace {

Tensor reference(OpCall& call) {
  const TensorView x = call.in(0);
  const TokenBatch& batch = call.tokens();
  Tensor out = Tensor::f32({batch.batch, x.cols()});
  for (std::int64_t b = 0; b < batch.batch; ++b)
    std::copy_n(x.row(batch.row_begin(b)), x.cols(), out.row(b));
  return out;
}

void gradient(GradientCall& call) {
  const TokenBatch& batch = call.tokens();
  const Tensor& g = call.gradient();
  Tensor out = Tensor::f32(call.in(0).shape());
  for (std::int64_t b = 0; b < g.rows(); ++b)
    std::copy_n(g.row(b), g.cols(), out.row(batch.row_begin(b)));
  call.add(0, std::move(out));
}

}  // namespace

const OpDef op_select_first = {.name = "select_first",
                               .infer = one_row_a_sequence,
                               .reference = reference,
                               .gradient = gradient};

}  // namespace quell
