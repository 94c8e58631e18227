#include "quell/graph/attention_call.h"

#include "quell/graph/relative_positions.h"

namespace quell {

AttentionShape AttentionCall::shape() const {
  std::vector<SequenceSpan> sequences;
  for (std::int64_t b = 0; b < queries.batch; ++b)
    sequences.push_back(
        {queries.row_begin(b), queries.row_count(b), keys.row_begin(b), keys.row_count(b)});
  return {.sequences = std::move(sequences),
          .num_heads = spec.num_heads,
          .num_kv_heads = spec.num_kv_heads,
          .head_dim = spec.head_dim,
          .causal = spec.causal && !spec.cross,
          .window = spec.sliding_window,
          .scale = spec.scale,
          .soft_cap = spec.soft_cap};
}

ProbsHook AttentionCall::score_hook(const Tensor& q, const Tensor& k) const {
  const AttentionShape s = shape();
  if (!spec.alibi_slopes.empty())
    return [this, s](std::int64_t index, std::span<float> scores) {
      const SequenceSpan& sequence = s.sequences[static_cast<std::size_t>(index / s.num_heads)];
      add_alibi(spec.alibi_slopes[static_cast<std::size_t>(first_head + index % s.num_heads)],
                positions.subspan(static_cast<std::size_t>(sequence.k_begin)), sequence.k_count,
                scores);
    };
  if (relative_query)
    return [this, s, &q, &k](std::int64_t index, std::span<float> scores) {
      add_disentangled(spec.disentangled, s, index, q, k, *relative_query, *relative_key, scores);
    };
  if (bias)
    return [this, s](std::int64_t index, std::span<float> scores) {
      const float* row =
          bias->row((first_head + index % s.num_heads) * s.sequences.front().q_count);
      for (std::size_t i = 0; i < scores.size(); ++i) scores[i] += row[i];
    };
  return nullptr;
}

void rotate_operands(const AttentionCall& call, Tensor& q, Tensor& k, ExecContext& ctx) {
  if (call.spec.rotary_inv_freq.empty()) return;
  RotaryTable own;
  if (!call.rotary)
    own = make_rotary_table(call.positions, call.spec.rotary_inv_freq, call.spec.rotary_amplitude,
                            ctx);
  for (Tensor* x : {&q, &k})
    rotate(x->span(), call.spec.head_dim, call.rotary ? *call.rotary : own, ctx);
}

void normalize_heads(NormKind kind, const Tensor& weight, const Tensor& bias, double eps, Tensor& x,
                     ExecContext& ctx) {
  const Shape shape = x.shape();
  x.reshape({x.numel() / weight.numel(), weight.numel()});
  normalize(kind, x, weight, bias, eps, x.span(), ctx);
  x.reshape(shape);
}

}  // namespace quell
