// One attention of a model on given q, k and v: everything around the bare operation that families
// differ in. The forward pass and the searches of compression passes share it.
#pragma once

#include <span>

#include "quell/model/relative_positions.h"
#include "quell/text/data/token_batch.h"

namespace quell {

/// Borrows everything.
struct AttentionCall {
  const AttentionSpec& spec;
  const TokenBatch &queries, &keys;
  bool cross = false;
  std::int64_t first_head = 0;  ///< where `spec` describes a part of the heads: slopes and `bias`
                                ///< are those from this one on
  std::span<const std::int32_t> positions = {};  ///< of the tokens: rotary embedding, ALiBi
  const RotaryTable* rotary = nullptr;           ///< null: made where needed
  const Tensor* bias = nullptr;                  ///< T5: [heads * N, N]
  const Tensor *relative_query = nullptr, *relative_key = nullptr;  ///< DeBERTa

  AttentionShape shape() const;
  /// What is added to the scores: ALiBi, T5's bias, DeBERTa's terms, or nothing. Refers to this
  /// call, `q` and `k`.
  ProbsHook score_hook(const Tensor& q, const Tensor& k) const;
};

/// Rotates q and k in place where the family does so.
void rotate_operands(const AttentionCall& call, Tensor& q, Tensor& k, ExecContext& ctx);
/// A norm over each head's dimensions of x [T, heads * C], in place; `weight` [C].
void normalize_heads(NormKind kind, const Tensor& weight, const Tensor& bias, double eps, Tensor& x,
                     ExecContext& ctx);

}  // namespace quell
