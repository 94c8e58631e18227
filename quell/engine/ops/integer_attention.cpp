// Attention on codes as an operator of the graph: codes of the operands as the stages in front of
// the quantizers leave them, then both products in integers.
#include <algorithm>

#include "quell/engine/lowered_op.h"
#include "quell/quant/integer_attention.h"

namespace quell {

bool has_integer_attention(const Node& attention) {
  const AttentionQuant* quant = attention_quant_of(attention);
  if (!quant) return false;
  const auto points = quant->points();
  return std::all_of(points.begin(), points.end(), [](const auto* point) {
    return point->has_value() && is_static_per_tensor(**point);
  });
}

Node integer_attention_node(const Node& attention, bool exact) {
  Node by = attention;
  by.op = &op_integer_attention;
  by.attributes =
      Attributes::of(IntegerAttentionAttributes{.attention = attention, .exact = exact});
  return by;
}

namespace {

void run(Executor& executor, NodeId n) {
  const Node& node = executor.graph().node(n);
  const auto& a = node.attributes.get<IntegerAttentionAttributes>();
  ExecContext& ctx = executor.ctx();
  if (executor.continues()) {
    // In f32, and what reads it makes codes of it: few rows.
    Tensor out = executor.attend_cached(n, a.attention);
    if (!a.affine.empty()) {
      const ChannelAffine& divided = a.affine.get<ChannelAffine>();
      inverse_affine_columns(out, divided.scale, divided.shift, out.span(), ctx);
    }
    executor.set(node.out, std::move(out));
    return;
  }

  const AttentionCall call = executor.attention_call(a.attention);
  const AttentionQuant& quant = *attention_quant_of(a.attention);
  const AttentionRun attention{.quant = &quant};

  // Operands that are read as codes may lack a value in f32, and nothing looks at it.
  AttentionOperands operands(executor.value(node.in[kQueryOperand]),
                             executor.value(node.in[kKeyOperand]),
                             executor.value(node.in[kValueOperand]));
  transform_operands(call, attention, operands, ctx);
  QuantizedRows made[3];
  const auto codes_of = [&](AttentionOperand i) -> const QuantizedRows& {
    const ActivationQuant& point = **quant.points()[i];
    const bool directly = reads_codes_directly(call.spec, i) && executor.has_codes(node.in[i]);
    if (directly) return executor.codes(node.in[i], point, false);
    made[i] = quantize_rows(operands[i], point, false, ctx);
    return made[i];
  };
  const QuantizedRows& qc = codes_of(kQueryOperand);
  const QuantizedRows& kc = codes_of(kKeyOperand);
  const QuantizedRows& vc = codes_of(kValueOperand);

  if (executor.cached())
    executor.write_cache(n, a.attention, dequantize_rows(kc, ctx), dequantize_rows(vc, ctx));

  // DeBERTa's terms read q and k themselves.
  Tensor q_hat;
  Tensor k_hat;
  if (call.relative_query) {
    q_hat = dequantize_rows(qc, ctx);
    k_hat = dequantize_rows(kc, ctx);
  }
  AttentionOperands seen(q_hat, k_hat, TensorView());
  seen.scale = operands.scale;
  const ProbsHook terms = score_terms(call, seen);

  AttentionShape shape = call.shape();
  shape.scale = operands.scale;
  IntegerAttentionCall integer{shape, qc, kc, vc, *quant.probs, call.keys.mask, terms};
  integer.exact_simulation = a.exact;

  const std::int64_t columns = shape.num_heads * shape.head_dim;
  if (!a.output) {
    Tensor out = Tensor::uninitialized(DType::kF32, {qc.rows, columns});
    integer.f32 = out.f32().data();
    integer_attention(integer, ctx);
    executor.set(node.out, std::move(out));
    return;
  }

  QuantizedRows out = make_quantized_rows(qc.rows, columns, *a.output);
  const AffineColumns affine = affine_columns_of(a.affine);
  integer.codes = &out;
  integer.code_scale = affine.scale;
  integer.code_shift = affine.shift;
  integer_attention(integer, ctx);
  executor.set_codes(node.out, std::move(out));
}

std::string describe(const Node& node) {
  const auto& a = node.attributes.get<IntegerAttentionAttributes>();
  return std::string("q k^T and p v on codes, ") + (a.output ? "writes codes" : "writes f32");
}

constexpr LoweredOp kLowered{run, describe};

}  // namespace

const OpDef op_integer_attention = {.name = "integer_attention", .lowered = &kLowered};

}  // namespace quell
