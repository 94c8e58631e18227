// Attention on codes: q, k, v and the probabilities quantized with static steps (the papers'
// "standard" setting), both products exact in integers.
#pragma once

#include "quell/ops/attention.h"
#include "quell/quant/quantized_rows.h"

namespace quell {

/// Operands of one attention. q, k, v: rows of static codes, [rows, heads * head_dim]. Writes f32
/// [q.rows, heads * head_dim] or, where `codes` is set, the next operator's codes. Scores are (s_q
/// s_k scale) * integer sum; outputs (s_p s_v) * integer sum; docs/numerics.md.
struct IntegerAttentionCall {
  const AttentionShape& shape;
  const QuantizedRows &q, &k, &v;
  const ActivationQuant& probs;
  std::span<const std::int32_t> mask;  ///< by row of k
  const ProbsHook& on_scores;          ///< may be empty
  float* f32 = nullptr;
  QuantizedRows* codes = nullptr;
  /// Codes are those of (y - shift[j]) / scale[j]; null: of y.
  const float *code_scale = nullptr, *code_shift = nullptr;
  bool exact_simulation = false;  ///< the portable kernel: same bytes, slow
};

void integer_attention(const IntegerAttentionCall& call, ExecContext& ctx);

}  // namespace quell
