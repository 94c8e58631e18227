// Attention on codes as an operator of the graph: what must happen to q and k before they are
// quantized (rotation, the scale that OPT applies first), then both products in integers.
#include "quell/engine/engines.h"
#include "quell/graph/forms.h"
#include "quell/quant/integer_attention.h"

namespace quell {
namespace {

class IntegerAttentionOp final : public NodeOp {
 public:
  IntegerAttentionOp(const Model& model, int node, bool exact, const ActivationQuant* output)
      : model_(model),
        node_(node),
        exact_(exact),
        output_(output),
        quant_(*attention_quant_of(model.graph.node(node))) {}

  void run(Executor& executor, ExecContext& ctx) const override {
    const Node& n = model_.graph.node(node_);
    if (executor.continues()) {
      return executor.set(n.out, executor.attend_cached(node_));
    }
    const AttentionCall call = executor.attention_call(node_);
    AttentionShape shape = call.shape();
    if (call.spec.quantize_scaled_query) shape.scale = 1.0F;
    Tensor q, k;
    if (!reads_codes_directly(model_, node_, 0)) {
      q = executor.value(n.in[0]).clone();
      k = executor.value(n.in[1]).clone();
      rotate_operands(call, q, k, ctx);
      if (call.spec.quantize_scaled_query)
        for (float& x : q.f32()) x *= call.spec.scale;
    }
    QuantizedRows made[3];
    const auto operand = [&](int i, const Tensor& changed,
                             const ActivationQuant& quant) -> const QuantizedRows& {
      const ValueId v = n.in[static_cast<std::size_t>(i)];
      if (!changed.defined() && executor.has_codes(v)) return executor.codes(v, quant, false);
      return made[i] =
                 quantize_rows(changed.defined() ? changed : executor.value(v), quant, false, ctx);
    };
    const QuantizedRows& qc = operand(0, q, *quant_.query);
    const QuantizedRows& kc = operand(1, k, *quant_.key);
    const QuantizedRows& vc = operand(2, Tensor(), *quant_.value);
    if (executor.cached())
      executor.write_cache(node_, dequantize_rows(kc, ctx), dequantize_rows(vc, ctx));
    // DeBERTa's terms read q and k themselves.
    Tensor q_hat, k_hat;
    if (call.relative_query) {
      q_hat = dequantize_rows(qc, ctx);
      k_hat = dequantize_rows(kc, ctx);
    }
    const ProbsHook hook = call.score_hook(q_hat, k_hat);
    IntegerAttentionCall integer{shape, qc, kc, vc, *quant_.probs, call.keys.mask, hook};
    integer.exact_simulation = exact_;
    const std::int64_t columns = shape.num_heads * shape.head_dim;
    if (output_) {
      QuantizedRows out = make_quantized_rows(qc.rows, columns, *output_);
      integer.codes = &out;
      if (const ChannelAffine* affine = explicit_affine_of(model_.graph, n.out)) {
        integer.code_scale = affine->scale.f32().data();
        if (affine->shift.defined()) integer.code_shift = affine->shift.f32().data();
      }
      integer_attention(integer, ctx);
      executor.set_codes(migrated(model_.graph, n.out), std::move(out));
    } else {
      Tensor out = Tensor::uninitialized(DType::kF32, {qc.rows, columns});
      integer.f32 = out.f32().data();
      integer_attention(integer, ctx);
      executor.set(n.out, std::move(out));
    }
  }

  std::string describe() const override {
    return std::string("q k^T and p v on codes, ") + (output_ ? "writes codes" : "writes f32");
  }

 private:
  const Model& model_;
  int node_;
  bool exact_;
  const ActivationQuant* output_;
  const AttentionQuant& quant_;
};

}  // namespace

bool reads_codes_directly(const Model& model, int node, int operand) {
  const AttentionSpec& spec = attention_of(model.graph.node(node));
  return operand == 2 || (spec.rotary_inv_freq.empty() && !spec.quantize_scaled_query);
}

std::unique_ptr<NodeOp> make_integer_attention(const Model& model, int node, bool exact,
                                               const ActivationQuant* output) {
  const AttentionQuant* quant = attention_quant_of(model.graph.node(node));
  if (!quant) return nullptr;
  for (const auto* point : quant->points())
    if (!*point || !is_static_per_tensor(**point)) return nullptr;
  return std::make_unique<IntegerAttentionOp>(model, node, exact, output);
}

}  // namespace quell
