// Scaled dot-product attention and rotary positions in f32.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "quell/base/exec_context.h"
#include "quell/tensor/tensor.h"

namespace quell {

struct AttentionShape {
  std::int64_t batch = 0, length = 0, key_length = 0;  ///< queries and keys of each sequence
  std::int64_t num_heads = 0, num_kv_heads = 0, head_dim = 0;
  bool causal = false;
  std::int64_t window = 0;  ///< with causal: a query sees itself and the window - 1 keys before it; 0: all
  /// Multiplies the scores; 1 where the query is already scaled.
  float scale = 1.0F;
  float soft_cap = 0.0F;  ///< scores become cap * tanh(score / cap); 0: none
};

/// Called with the scores or the probabilities [length, key_length] of one (sample, head) pair, index = sample * num_heads + head;
/// may change them. Called from several threads, each index once.
using ProbsHook = std::function<void(std::int64_t index, std::span<float> matrix)>;

/// q: [B*N, num_heads*head_dim], k and v: [B*M, num_kv_heads*head_dim], mask: B*M of 0 and 1 (keys to attend to), out as q.
/// `on_scores` runs behind the scale and before the soft cap. A row without any key to attend to spreads evenly over all, as the
/// reference implementation's finite mask does.
void attention(const AttentionShape& shape, const TensorView& q, const TensorView& k, const TensorView& v,
               std::span<const std::int32_t> mask, TensorSpan out, const ProbsHook& on_scores, const ProbsHook& on_probs,
               ExecContext& ctx);

/// Rotates pairs (i, i + head_dim/2) of every head of x[T, heads*head_dim] by positions[t] * inv_freq[i]; cosines and sines times
/// `amplitude`.
void rotate(TensorSpan x, std::int64_t head_dim, std::span<const std::int32_t> positions, std::span<const float> inv_freq,
            float amplitude, ExecContext& ctx);

}  // namespace quell
