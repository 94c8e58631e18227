// Scaled dot-product attention and rotary positions in f32.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "quell/base/exec_context.h"
#include "quell/tensor/tensor.h"

namespace quell {

/// Rows of one sequence: its queries in q, its keys and values in k, v and the mask. With causal
/// attention the queries are the last of the keys.
struct SequenceSpan {
  std::int64_t q_begin = 0, q_count = 0, k_begin = 0, k_count = 0;
};

struct AttentionShape {
  std::vector<SequenceSpan> sequences;
  std::int64_t num_heads = 0, num_kv_heads = 0, head_dim = 0;
  bool causal = false;
  std::int64_t window =
      0;  ///< with causal: a query sees itself and the window - 1 keys before it; 0: all
  /// Multiplies the scores; 1 where the query is already scaled.
  float scale = 1.0F;
  float soft_cap = 0.0F;  ///< scores become cap * tanh(score / cap); 0: none

  /// Keys [first, last) that query `i` of a sequence may see.
  std::int64_t last_key(const SequenceSpan& s, std::int64_t i) const {
    return causal ? s.k_count - s.q_count + i + 1 : s.k_count;
  }
  std::int64_t first_key(std::int64_t last) const {
    return window > 0 && last > window ? last - window : 0;
  }
};

/// A block of queries of one sequence and head: what a thread works on. Keys from `keys` on are
/// seen by none of the block.
struct AttentionBlock {
  std::int64_t sequence = 0, head = 0, q_begin = 0, q_end = 0, keys = 0;
};
/// All blocks, at most `rows` queries each.
std::vector<AttentionBlock> attention_blocks(const AttentionShape& shape, std::int64_t rows);
inline constexpr std::int64_t kAttentionRows = 64;
inline constexpr std::int64_t kAllRows = std::int64_t{1} << 40;

/// Called with the scores or the probabilities [q_count, k_count] of one (sequence, head) pair,
/// index = sequence * num_heads + head; may change them. Called from several threads, each index
/// once.
using ProbsHook = std::function<void(std::int64_t index, std::span<float> matrix)>;

/// q: [rows, num_heads*head_dim], k and v: [rows, num_kv_heads*head_dim], mask: 0 and 1 by row of k
/// (keys to attend to), out as q. `on_scores` runs behind the scale and before the soft cap. A
/// query without any key to attend to spreads evenly over all, as the reference implementation's
/// finite mask does.
void attention(const AttentionShape& shape, const TensorView& q, const TensorView& k,
               const TensorView& v, std::span<const std::int32_t> mask, TensorSpan out,
               const ProbsHook& on_scores, const ProbsHook& on_probs, ExecContext& ctx);

/// score -> cap * tanh(score / cap).
void soft_cap(std::span<float> scores, float cap, Isa isa);

/// Cosines and sines of positions[t] * inv_freq[i], times an amplitude: [T, i].
struct RotaryTable {
  Tensor cosine, sine;
};
RotaryTable make_rotary_table(std::span<const std::int32_t> positions,
                              std::span<const float> inv_freq, float amplitude, ExecContext& ctx);
/// Rotates pairs (i, i + head_dim/2) of every head of x[T, heads*head_dim].
void rotate(TensorSpan x, std::int64_t head_dim, const RotaryTable& table, ExecContext& ctx);

}  // namespace quell
