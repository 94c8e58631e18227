// Biases of attention scores by the distance of query and key, and image patches: what single
// families need beside the plain steps.
#pragma once

#include <span>
#include <vector>

#include "quell/graph/ops.h"
#include "quell/ops/attention.h"

namespace quell {

/// scores[i, j] += slope * positions[j] (ALiBi; Press et al. 2022). `positions`: of one sequence's
/// keys.
void add_alibi(float slope, std::span<const std::int32_t> positions, std::int64_t key_length,
               std::span<float> scores);
/// Slopes of `num_heads` heads, as BLOOM takes them.
std::vector<float> alibi_slopes(std::int64_t num_heads);

/// T5: row of the table for key minus query = `distance`.
std::int64_t relative_bias_row(const RelativeBiasAttributes& spec, std::int64_t distance);
/// T5: [num_heads * N, N] from the table [buckets, num_heads].
Tensor relative_bias_table(const RelativeBiasAttributes& spec, const Tensor& table,
                           std::int64_t length);

/// DeBERTa: row of the relative embeddings for query minus key = `distance`.
std::int64_t disentangled_row(const DisentangledSpec& spec, std::int64_t distance);
/// DeBERTa: scores += q . relative_k (content to position) + k . relative_q (position to content),
/// both at the bucket of i - j and times `shape.scale`. relative_q, relative_k: [2 * span,
/// num_heads * head_dim]; index = sample * num_heads + head.
void add_disentangled(const DisentangledSpec& spec, const AttentionShape& shape, std::int64_t index,
                      const TensorView& q, const TensorView& k, const TensorView& relative_q,
                      const TensorView& relative_k, std::span<float> scores);

/// Pixels [batch, channels, size, size] as rows [batch * patches, channels * patch * patch]: what a
/// convolution with the stride of its kernel sees.
Tensor patches(std::span<const float> pixels, std::int64_t batch, std::int64_t channels,
               std::int64_t size, std::int64_t patch);

}  // namespace quell
