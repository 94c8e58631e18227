// Integer products with everything that an epilogue can do before it writes f32 or codes.
#include "quell/engine/lowered_op.h"

namespace quell {

AffineColumns affine_columns_of(const Attributes& affine) {
  if (affine.empty()) return {};
  const auto& columns = affine.get<ChannelAffine>();
  return {columns.scale.f32().data(),
          columns.shift.defined() ? columns.shift.f32().data() : nullptr};
}

namespace {

void run(Executor& executor, NodeId n) {
  const Node& node = executor.graph().node(n);
  const auto& a = node.attributes.get<IntegerLinearAttributes>();
  const IntegerLinear& linear = *a.linear;
  const QuantizedRows& x = executor.codes(node.in[0], linear.input(), linear.needs_sums());

  LinearOutput output;
  Tensor storage;
  output.activation = a.activation;
  if (node.operand(1) != kNoValue) output.residual = executor.residual(node.in[1], storage);

  if (!a.output) {
    Tensor y = Tensor::uninitialized(DType::kF32, {x.rows, linear.columns()});
    output.f32 = y.f32().data();
    linear.forward_rows(x, output, executor.ctx());
    executor.set(node.out, std::move(y));
    return;
  }

  QuantizedRows rows = make_quantized_rows(x.rows, linear.columns(), *a.output);
  const AffineColumns affine = affine_columns_of(a.affine);
  output.codes = &rows;
  output.code_scale = affine.scale;
  output.code_shift = affine.shift;
  linear.forward_rows(x, output, executor.ctx());
  executor.set_codes(node.out, std::move(rows));
}

std::string describe(const Node& node) {
  const auto& a = node.attributes.get<IntegerLinearAttributes>();
  return a.what + (a.output ? ", writes codes" : ", writes f32");
}

constexpr LoweredOp kLowered{run, describe};

}  // namespace

const OpDef op_integer_linear = {
    .name = "integer_linear", .row_by_row = true, .lowered = &kLowered};

}  // namespace quell
