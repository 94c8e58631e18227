// Integer products with everything that an epilogue can do before it writes f32 or codes.
#include "quell/engine/lowered_op.h"
#include "quell/quant/rounding.h"

namespace quell {

AffineColumns affine_columns_of(const Attributes& affine) {
  if (affine.empty()) return {};
  const auto& columns = affine.get<ChannelAffine>();
  return {columns.scale.f32().data(),
          columns.shift.defined() ? columns.shift.f32().data() : nullptr};
}

namespace {

/// The codes of 0 and 6: values are quantized in their order, so that a clamp of the values is one
/// of the codes.
void set_bounds(ActivationKind clamp, const ActivationQuant& quant, LinearOutput& output) {
  const kernels::CodeArgs args = code_args(quant.spec, quant.qparams);
  output.code_low = args.zero;
  if (clamp != ActivationKind::kRelu6) return;
  const float six = 6.0F * args.inv_scale;
  if (six < 512.0F) output.code_high = args.zero + static_cast<std::int32_t>(round_half_even(six));
}

void run(Executor& executor, NodeId n) {
  const Node& node = executor.graph().node(n);
  const auto& a = node.attributes.get<IntegerProductAttributes>();
  const IntegerProduct& product = *a.product;
  const QuantizedRows& x = executor.codes(node.in[0], product.input(), product.needs_sums());
  const std::int64_t rows = product.out_rows(x.rows);

  LinearOutput output;
  Tensor storage;
  if (a.activation) output.activation = *fused_activation(*a.activation);
  if (node.operand(1) != kNoValue) output.residual = executor.residual(node.in[1], storage);

  if (!a.output) {
    Tensor y = Tensor::uninitialized(DType::kF32, {rows, product.columns()});
    output.f32 = y.f32().data();
    product.forward_rows(x, output, executor.ctx());
    executor.set(node.out, std::move(y));
    return;
  }

  QuantizedRows codes =
      make_quantized_rows(rows, product.columns(), *a.output, executor.code_stride(node.out));
  const AffineColumns affine = affine_columns_of(a.affine);
  output.codes = &codes;
  output.code_scale = affine.scale;
  output.code_shift = affine.shift;
  if (a.clamp) set_bounds(*a.clamp, *a.output, output);
  product.forward_rows(x, output, executor.ctx());
  executor.set_codes(node.out, std::move(codes));
}

std::string describe(const Node& node) {
  const auto& a = node.attributes.get<IntegerProductAttributes>();
  return a.what + (a.output ? ", writes codes" : ", writes f32");
}

constexpr LoweredOp kLowered{run, describe};

}  // namespace

const OpDef op_integer_product = {
    .name = "integer_product", .row_by_row = true, .lowered = &kLowered};

}  // namespace quell
