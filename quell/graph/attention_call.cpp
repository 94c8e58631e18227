#include "quell/graph/attention_call.h"

#include <algorithm>

namespace quell {

AttentionShape AttentionCall::shape() const {
  const std::int64_t kv_heads = std::min(part.kv_heads, spec.num_kv_heads - part.first_kv_head);
  AttentionShape shape{.sequences = {},
                       .num_heads = kv_heads * (spec.num_heads / spec.num_kv_heads),
                       .num_kv_heads = kv_heads,
                       .head_dim = spec.head_dim,
                       .causal = spec.causal && !spec.cross,
                       .window = spec.sliding_window,
                       .scale = spec.scale,
                       .soft_cap = spec.soft_cap};

  for (std::int64_t b = 0; b < queries.batch; ++b) {
    const std::int64_t all = queries.row_count(b);
    const std::int64_t begin = std::min(part.first_query, all);
    const std::int64_t end = std::min(all - begin, part.queries) + begin;
    SequenceSpan span{queries.row_begin(b) + begin, end - begin, keys.row_begin(b),
                      keys.row_count(b)};
    // The queries are the last of the keys, and none sees those behind.
    if (shape.causal) span.k_count -= all - end;
    shape.sequences.push_back(span);
  }
  return shape;
}

void normalize_heads(NormKind kind, const Tensor& weight, const Tensor& bias, double eps, Tensor& x,
                     ExecContext& ctx) {
  const Shape shape = x.shape();
  x.reshape({x.numel() / weight.numel(), weight.numel()});
  normalize(kind, x, weight, bias, eps, x.span(), ctx);
  x.reshape(shape);
}

}  // namespace quell
