#include "tests/extension/doubling_op.h"

namespace quell::testing {
namespace {

Tensor reference(OpCall& call) {
  Tensor out = Tensor::copy_of(call.in(0));
  for (int i = 0; i < call.attributes<DoublingAttributes>().times; ++i)
    for (float& v : out.f32()) v += v;
  return out;
}

void gradient(GradientCall& call) {
  Tensor g = call.take_gradient();
  for (int i = 0; i < call.attributes<DoublingAttributes>().times; ++i)
    for (float& v : g.f32()) v += v;
  call.add(0, std::move(g));
}

}  // namespace

const OpDef op_doubling = {.name = "doubling",
                           .infer = like_operand,
                           .reference = reference,
                           .gradient = gradient,
                           .row_by_row = true};

}  // namespace quell::testing
