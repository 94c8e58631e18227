// Attention on codes as an operator of the graph: what must happen to q and k before they are
// quantized (rotation, the scale that OPT applies first), then both products in integers.
#include <algorithm>

#include "quell/engine/lowered_op.h"
#include "quell/quant/integer_attention.h"

namespace quell {

bool reads_codes_directly(const Node& attention, std::size_t operand) {
  const AttentionSpec& spec = attention_of(attention);
  return operand == 2 || (spec.rotary_inv_freq.empty() && !spec.quantize_scaled_query);
}

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
    executor.set(node.out, executor.attend_cached(n, a.attention));
    return;
  }

  const AttentionCall call = executor.attention_call(a.attention);
  const AttentionQuant& quant = *attention_quant_of(a.attention);
  AttentionShape shape = call.shape();
  if (call.spec.quantize_scaled_query) shape.scale = 1.0F;
  Tensor q, k;
  if (!reads_codes_directly(a.attention, 0)) {
    q = executor.value(node.in[0]).clone();
    k = executor.value(node.in[1]).clone();
    rotate_operands(call, q, k, ctx);
    if (call.spec.quantize_scaled_query)
      for (float& x : q.f32()) x *= call.spec.scale;
  }

  QuantizedRows made[3];
  const auto operand = [&](std::size_t i, const Tensor& changed,
                           const ActivationQuant& point) -> const QuantizedRows& {
    const ValueId v = node.in[i];
    if (!changed.defined() && executor.has_codes(v)) return executor.codes(v, point, false);
    made[i] = quantize_rows(changed.defined() ? changed : executor.value(v), point, false, ctx);
    return made[i];
  };
  const QuantizedRows& qc = operand(0, q, *quant.query);
  const QuantizedRows& kc = operand(1, k, *quant.key);
  const QuantizedRows& vc = operand(2, Tensor(), *quant.value);
  if (executor.cached())
    executor.write_cache(n, a.attention, dequantize_rows(kc, ctx), dequantize_rows(vc, ctx));

  // DeBERTa's terms read q and k themselves.
  Tensor q_hat, k_hat;
  if (call.relative_query) {
    q_hat = dequantize_rows(qc, ctx);
    k_hat = dequantize_rows(kc, ctx);
  }
  const ProbsHook hook = call.score_hook(q_hat, k_hat);
  IntegerAttentionCall integer{shape, qc, kc, vc, *quant.probs, call.keys.mask, hook};
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
