// One attention of a model on given q, k and v: everything around the bare operation that families
// differ in. The forward pass and the searches of compression passes share it.
#pragma once

#include <optional>
#include <span>

#include "quell/graph/ops.h"
#include "quell/ops/attention.h"
#include "quell/text/data/token_batch.h"

namespace quell {

/// Borrows everything.
struct AttentionCall {
  const AttentionSpec& spec;
  const TokenBatch& queries;
  const TokenBatch& keys;
  /// Where `spec` describes a part of the heads: slopes and `bias` are those from this one on.
  std::int64_t first_head = 0;
  std::span<const std::int32_t> positions = {};   ///< of the tokens: rotary embedding, ALiBi
  const RotaryTable* rotary = nullptr;            ///< null: made where needed
  std::optional<TensorView> bias = {};            ///< T5: [heads * N, N]
  std::optional<TensorView> relative_query = {};  ///< DeBERTa
  std::optional<TensorView> relative_key = {};

  AttentionShape shape() const;
  /// What is added to the scores: ALiBi, T5's bias, DeBERTa's terms, or nothing. Refers to this
  /// call, `q` and `k`.
  ProbsHook score_hook(const Tensor& q, const Tensor& k) const;
};

/// Of an attention node. `rotary` may be null. Refers to the operands of `call`.
AttentionCall attention_call(OpCall& call, const RotaryTable* rotary = nullptr);

/// Rotates q and k in place where the family does so.
void rotate_operands(const AttentionCall& call, Tensor& q, Tensor& k, ExecContext& ctx);
/// A norm over each head's dimensions of x [T, heads * C], in place; `weight` [C].
void normalize_heads(NormKind kind, const Tensor& weight, const Tensor& bias, double eps, Tensor& x,
                     ExecContext& ctx);

}  // namespace quell
