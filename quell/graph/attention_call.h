// One attention of a model, described: everything around the bare operation that families differ
// in. attention_run.h runs it.
#pragma once

#include <optional>
#include <span>

#include "quell/graph/ops.h"
#include "quell/ops/attention.h"
#include "quell/text/data/token_batch.h"

namespace quell {

/// Some heads and queries of an attention.
struct AttentionPart {
  static constexpr std::int64_t kRest = std::int64_t{1} << 40;
  /// Key and value heads with the query heads that read them: the operands have their columns
  /// alone.
  std::int64_t first_kv_head = 0;
  std::int64_t kv_heads = kRest;
  /// Of each sequence: the operands have all rows, those of other queries stay 0 in the output.
  std::int64_t first_query = 0;
  std::int64_t queries = kRest;

  bool is_whole() const {
    return first_kv_head == 0 && kv_heads == kRest && first_query == 0 && queries == kRest;
  }
};

/// Borrows everything.
struct AttentionCall {
  const AttentionSpec& spec;  ///< of the whole attention
  const TokenBatch& queries;
  const TokenBatch& keys;
  AttentionPart part = {};
  std::span<const std::int32_t> positions = {};   ///< of the tokens: rotary embedding, ALiBi
  const RotaryTable* rotary = nullptr;            ///< null: made where needed
  std::optional<TensorView> bias = {};            ///< T5: [heads * N, N]
  std::optional<TensorView> relative_query = {};  ///< DeBERTa
  std::optional<TensorView> relative_key = {};

  /// Of the part, with the scale of the spec.
  AttentionShape shape() const;
  /// The query head that the part begins with.
  std::int64_t first_head() const {
    return part.first_kv_head * (spec.num_heads / spec.num_kv_heads);
  }
};

/// Of an attention node. `rotary` may be null. Refers to the operands of `call`.
AttentionCall attention_call(OpCall& call, const RotaryTable* rotary = nullptr);

/// A norm over each head's dimensions of x [T, heads * C], in place; `weight` [C].
void normalize_heads(NormKind kind, const Tensor& weight, const Tensor& bias, double eps, Tensor& x,
                     ExecContext& ctx);

}  // namespace quell
